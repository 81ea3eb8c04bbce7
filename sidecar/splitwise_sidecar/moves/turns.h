#include <stdint.h>

/* Asks for slices of a processor as short as this thread's turns: who gives one back early loses no more
 * than that. Kernels before 6.12 do not know them, and then nothing changes. */
void ask_for_slices(int64_t ns);
