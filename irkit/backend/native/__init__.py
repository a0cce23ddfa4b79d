from irkit.backend.native import qconv, qlinear  # noqa: F401
