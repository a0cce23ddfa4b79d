// Arrays in files: NumPy's .npy format (versions 1 to 3, little endian) and raw bytes.
#pragma once
#include "irkit.h"

namespace tool {

constexpr int kMessage = 512;

enum class Format { npy, raw, unknown };

// By the file's extension: .npy, .bin.
Format format_of(const char* path);

// Reads exactly what `port` wants into buffer[port.bytes]; an array in Fortran order is put in C order. On failure the
// message says what was expected and what the file has.
bool read_array(const char* path, const irk_tensor& port, void* buffer, char message[kMessage]);

// Writes a file of that format beside `path`, then renames it: `path` is the old file or the whole new one.
bool write_array(const char* path, const irk_tensor& port, const void* data, char message[kMessage]);

// "f32[1,3,224,224]"
void type_text(irk_dtype dtype, const int64_t* dims, int rank, char* out, size_t size);

}  // namespace tool
