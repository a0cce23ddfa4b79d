// Memory of this process.
#pragma once
#include <stdint.h>

namespace tool {

// From now on a function that is called brings little more than itself into memory. To be called first.
void map_program_in_pieces();

// Gives back the pages of the program's code and constants; what is used again comes from the file again. Loading a
// model runs much code that calls never do.
void drop_program_pages();

// The most memory this process had at once, in bytes; 0 where the system does not tell.
int64_t peak_memory();

}  // namespace tool
