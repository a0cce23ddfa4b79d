/* irkit's runtime for C and C++: load an artifact (.irk), call it with your own buffers.
 *
 *   irk_error err;
 *   irk_model* m;
 *   if (irk_load_file("model.irk", NULL, &m, &err)) { fprintf(stderr, "%s\n", err.message); exit(1); }
 *   const void* in[] = {image};  size_t in_bytes[] = {sizeof image};
 *   void* out[] = {scores};      size_t out_bytes[] = {sizeof scores};
 *   if (irk_run(m, in, in_bytes, 1, out, out_bytes, 1, &err)) ...
 *   irk_free(m);
 *
 * Functions that can fail return an irk_code, 0 for success, and fill `err` when it is not NULL. Any number of threads
 * may call irk_run on one model at once. Any file may be loaded: a bad one is refused with a message. An artifact gives
 * the same bits on every CPU for int8, and for any number of threads always.
 */
#ifndef IRKIT_H_
#define IRKIT_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define IRK_API __attribute__((visibility("default")))
#else
#define IRK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  IRK_OK = 0,
  IRK_BAD_FILE,    /* damaged, truncated or inconsistent artifact */
  IRK_BAD_VERSION, /* artifact of a newer irkit */
  IRK_BAD_INPUT,   /* wrong argument: count, size, alignment, overlap, unknown ISA level */
  IRK_OUT_OF_MEMORY,
  IRK_UNSUPPORTED, /* the artifact needs a kernel or host function that is not there */
  IRK_IO,          /* the file can't be read */
  IRK_INTERNAL
} irk_code;

typedef enum { IRK_F32 = 0, IRK_F64, IRK_I8, IRK_U8, IRK_I16, IRK_I32, IRK_I64, IRK_BOOL } irk_dtype;

typedef struct {
  irk_code code;
  char message[256];
} irk_error;

typedef struct {
  const char*
      isa;     /* highest ISA level to use ("avx2", ...); NULL: IRKIT_ISA from the environment, else what there is */
  int threads; /* 0: IRKIT_THREADS from the environment, else the CPUs of this process */
} irk_options;

typedef struct {
  const char* name; /* lives as long as the model */
  irk_dtype dtype;
  int rank;
  int64_t dims[8]; /* outermost first; the buffer is row-major */
  size_t bytes;
  float scale; /* real = scale * (value - zero); scale is 0 where the tensor is not quantized */
  int32_t zero;
} irk_tensor;

typedef struct {
  const char* name;   /* the layer it comes from */
  const char* family; /* which kind of kernel */
  const char* kernel; /* the kernel chosen for this CPU */
} irk_step;

typedef struct irk_model irk_model;

/* `options` may be NULL. On failure *out is NULL. */
IRK_API irk_code irk_load_file(const char* path, const irk_options* options, irk_model** out, irk_error* err);
/* Copies the bytes. */
IRK_API irk_code irk_load_memory(const void* data, size_t size, const irk_options* options, irk_model** out,
                                 irk_error* err);
/* NULL is fine. No call may be under way. */
IRK_API void irk_free(irk_model* model);

IRK_API int irk_input_count(const irk_model* model);
IRK_API int irk_output_count(const irk_model* model);
IRK_API irk_code irk_input(const irk_model* model, int index, irk_tensor* out, irk_error* err);
IRK_API irk_code irk_output(const irk_model* model, int index, irk_tensor* out, irk_error* err);

IRK_API int irk_threads(const irk_model* model);
IRK_API irk_code irk_set_threads(irk_model* model, int threads, irk_error* err); /* 1 to 256 */
IRK_API const char* irk_isa(const irk_model* model);

/* One call. Buffers are aligned to their element; outputs overlap neither inputs nor each other; sizes are exact. */
IRK_API irk_code irk_run(irk_model* model, const void* const* inputs, const size_t* input_bytes, int n_inputs,
                         void* const* outputs, const size_t* output_bytes, int n_outputs, irk_error* err);

IRK_API int irk_step_count(const irk_model* model);
IRK_API irk_code irk_step_info(const irk_model* model, int step, irk_step* out, irk_error* err);
/* As irk_run, and adds each step's nanoseconds to step_ns[irk_step_count(model)]. */
IRK_API irk_code irk_profile(irk_model* model, const void* const* inputs, const size_t* input_bytes, int n_inputs,
                             void* const* outputs, const size_t* output_bytes, int n_outputs, int64_t* step_ns,
                             irk_error* err);

/* Attach a function to a step of family "python" or "numba", for which the runtime has no kernel. It gets the step's
 * input buffers (NULL where absent), then its outputs, on the thread that calls; nonzero fails the call. */
typedef int (*irk_host_fn)(void* user, void* const* buffers);
IRK_API irk_code irk_set_host_step(irk_model* model, int step, irk_host_fn fn, void* user, irk_error* err);

#ifdef __cplusplus
}
#endif
#endif /* IRKIT_H_ */
