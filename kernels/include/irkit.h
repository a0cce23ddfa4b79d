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
 * Errors. A function that can fail returns an irk_code, 0 for success, and fills `err` when it is not NULL. A failed
 * call changes nothing: the model stays usable. No function exits, aborts, throws or prints. Any bytes may be loaded; a
 * bad artifact is refused with a message.
 *
 * Threads. Any number of threads may call irk_run on one model at once. irk_set_threads and irk_set_host_step want the
 * model to themselves. Worker threads are shared by all models of the process; a run allocates nothing once as many
 * runs at once have been seen before.
 *
 * Results. An artifact gives the same bits for any number of threads; an int8 artifact the same on every CPU.
 *
 * Links with libc, libm and pthread only.
 */
#ifndef IRKIT_H_
#define IRKIT_H_

#include <stddef.h>
#include <stdint.h>

#define IRK_VERSION_MAJOR 0
#define IRK_VERSION_MINOR 1
#define IRK_VERSION_PATCH 0
#define IRK_VERSION "0.1.0"

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
  IRK_BAD_FILE,      /* damaged, truncated or inconsistent artifact */
  IRK_BAD_VERSION,   /* artifact of a newer irkit */
  IRK_BAD_INPUT,     /* wrong argument: null, count, size, alignment, overlap, index, ISA level, threads */
  IRK_OUT_OF_MEMORY, /* memory is not to be had, at loading as a rule */
  IRK_UNSUPPORTED,   /* the artifact needs a kernel or host function that is not there */
  IRK_IO,            /* the file can't be opened or mapped */
  IRK_INTERNAL       /* a host function failed, or a fault in irkit */
} irk_code;

typedef enum { IRK_F32 = 0, IRK_F64, IRK_I8, IRK_U8, IRK_I16, IRK_I32, IRK_I64, IRK_BOOL } irk_dtype;

typedef struct {
  irk_code code;
  char message[256]; /* UTF-8; a long one is cut */
} irk_error;

typedef struct {
  const char*
      isa;     /* highest ISA level to use, see irk_isas; NULL or "": IRKIT_ISA from the environment, else the best */
  int threads; /* of a call, 1 to 256; 0: IRKIT_THREADS from the environment, else the CPUs of this process */
} irk_options;

/* An input or output. */
typedef struct {
  const char* name; /* lives as long as the model */
  irk_dtype dtype;
  int rank;
  int64_t dims[8]; /* outermost first; the buffer is row-major */
  size_t bytes;
  float scale; /* real = scale * (value - zero); scale is 0 where the tensor is not quantized */
  int32_t zero;
} irk_tensor;

/* Names live as long as the model. */
typedef struct {
  const char* name;   /* the layer it comes from; may be empty */
  const char* family; /* which kind of kernel */
  const char* kernel; /* the kernel chosen for this CPU */
} irk_step;

/* Bytes a model takes. */
typedef struct {
  size_t artifact; /* the file, or the caller's bytes */
  size_t prepared; /* constants in the order that kernels want, and tables: one for all calls */
  size_t arena;    /* intermediate tensors of a call; calls under way at once have one each */
  size_t scratch;  /* working memory of a call's threads that unused parts of the arena have no room for */
} irk_memory;

typedef struct irk_model irk_model;

/* The library's version, IRK_VERSION of its header. */
IRK_API const char* irk_version(void);
/* "bad file", ...; "unknown error" for a number that is no irk_code. Never NULL. */
IRK_API const char* irk_code_name(irk_code code);
/* "f32", ..., "bool"; "?" for a number that is no irk_dtype. */
IRK_API const char* irk_dtype_name(irk_dtype dtype);
/* Bytes of an element; 0 for a number that is no irk_dtype. */
IRK_API size_t irk_dtype_size(irk_dtype dtype);
/* The index-th ISA level that this CPU runs, lowest first ("scalar", "neon", ...); NULL beyond the last. */
IRK_API const char* irk_cpu_isa(int index);

/* Maps the file: of its pages, only what calls read stays in memory. The file must not be changed in place while the
 * model lives; replace it by renaming another one over it. `options` may be NULL. On failure *out is NULL. */
IRK_API irk_code irk_load_file(const char* path, const irk_options* options, irk_model** out, irk_error* err);
/* Copies the bytes. */
IRK_API irk_code irk_load_memory(const void* data, size_t size, const irk_options* options, irk_model** out,
                                 irk_error* err);
/* Copies nothing: `data`, aligned to 8 bytes, must stay as it is for as long as the model lives. For artifacts that are
 * part of the program or of a mapping of your own. */
IRK_API irk_code irk_load_borrowed(const void* data, size_t size, const irk_options* options, irk_model** out,
                                   irk_error* err);
/* NULL is fine. No call may be under way. */
IRK_API void irk_free(irk_model* model);

IRK_API int irk_input_count(const irk_model* model);
IRK_API int irk_output_count(const irk_model* model);
IRK_API irk_code irk_input(const irk_model* model, int index, irk_tensor* out, irk_error* err);
IRK_API irk_code irk_output(const irk_model* model, int index, irk_tensor* out, irk_error* err);

/* Threads of a call: what was asked for, or fewer when the system gives no more. Work is cut for the threads that a
 * model is loaded with: with more of them set later, results are the same, but some steps can't be split as well, so
 * load with the most that will be wanted and set fewer. */
IRK_API int irk_threads(const irk_model* model);
IRK_API irk_code irk_set_threads(irk_model* model, int threads, irk_error* err); /* 1 to 256 */
IRK_API const char* irk_isa(const irk_model* model);
/* After loading a file, a run needs about prepared + arena + scratch, which is near artifact + arena. Loading needs no
 * more, but for a model with most of its weights in one layer: that layer's weights then exist twice for a moment. */
IRK_API irk_code irk_memory_use(const irk_model* model, irk_memory* out, irk_error* err);

/* One call. Buffers are aligned to their element; outputs overlap neither inputs nor each other; sizes are exact. When
 * it fails, what the outputs hold is undefined. */
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
