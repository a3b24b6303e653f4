/*
 * libstdc++ as GCC 12 and later build it takes random numbers from arc4random,
 * which glibc has had since 2.36 only. Where the binary has a function of that
 * name itself, it needs no more than glibc 2.34.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

__attribute__((visibility("hidden"))) uint32_t arc4random(void) {
  uint32_t value;
  for (;;) {
    /* Up to 256 bytes are never given in part. */
    if (getrandom(&value, sizeof value, 0) == (ssize_t)sizeof value) {
      return value;
    }
    if (errno != EINTR) {
      __builtin_trap(); /* numbers that are not random are worse than an end */
    }
  }
}
