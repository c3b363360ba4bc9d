/* Runs a fuzz target where the compiler brings no fuzzer (GCC): every seed of a folder, then seeds
   changed at random, RUNS of them. A failure is repeated with the INPHASE_SEED that is printed.
   With clang libFuzzer takes this file's place, which is guided by the code that it reaches.

     fuzz_NAME SEEDS RUNS */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"

#define MOST_SEEDS 256
#define MOST_BYTES 65536

static struct {
    uint8_t *bytes;
    size_t size;
} seed[MOST_SEEDS];
static uint32_t seeds;

static void read_seed(int folder, const char *name)
{
    static uint8_t bytes[MOST_BYTES];
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    ssize_t size;

    CHECK(fd >= 0);
    size = read(fd, bytes, sizeof bytes);
    close(fd);
    if (size < 0)
        return; /* a folder */
    CHECK(seeds < MOST_SEEDS);
    seed[seeds].bytes = malloc((size_t)size + 1);
    CHECK(seed[seeds].bytes);
    memcpy(seed[seeds].bytes, bytes, (size_t)size);
    seed[seeds++].size = (size_t)size;
}

static void read_seeds(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    CHECK(folder);
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.')
            read_seed(dirfd(folder), entry->d_name);
    closedir(folder);
    CHECK(seeds > 0);
}

static uint32_t below(size_t bound)
{
    return (uint32_t)(check_random() % bound);
}

/* a seed with some of its bytes changed, cut, doubled, or joined with another's */
static size_t change(uint8_t *to)
{
    uint32_t from = below(seeds), other = below(seeds);
    size_t size = seed[from].size;

    memcpy(to, seed[from].bytes, size);
    for (uint32_t i = 1 + below(8); i > 0 && size > 0; i--) {
        size_t at = below(size);

        switch (below(6)) {
        case 0:
            to[at] ^= (uint8_t)(1 << below(8));
            break;
        case 1:
            to[at] = (uint8_t)check_random();
            break;
        case 2: {
            static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};

            memset(to + at, edges[below(sizeof edges)], size - at < 8 ? size - at : 8);
            break;
        }
        case 3:
            size = at;
            break;
        case 4:
            if (size + at <= MOST_BYTES) {
                memmove(to + size, to, at);
                size += at;
            }
            break;
        default:
            if (seed[other].size > at) {
                memcpy(to + at, seed[other].bytes + at, seed[other].size - at);
                size = seed[other].size;
            }
            break;
        }
    }
    return size;
}

int main(int count, char **argument)
{
    static uint8_t buffer[MOST_BYTES];
    uint64_t runs;

    if (count != 3) {
        fprintf(stderr, "usage: %s SEEDS RUNS\n", argument[0]);
        return 64;
    }
    runs = strtoull(argument[2], NULL, 0);
    check_seed();
    read_seeds(argument[1]);
    for (uint32_t i = 0; i < seeds; i++)
        LLVMFuzzerTestOneInput(seed[i].bytes, seed[i].size);
    for (uint64_t i = 0; i < runs; i++) {
        size_t size = change(buffer);

        /* a copy of its own size, so that a read beyond it is seen */
        uint8_t *bytes = malloc(size ? size : 1);

        CHECK(bytes);
        memcpy(bytes, buffer, size);
        LLVMFuzzerTestOneInput(bytes, size);
        free(bytes);
    }
    printf("%u seeds, %llu inputs: 0 failures\n", seeds, (unsigned long long)runs);
    for (uint32_t i = 0; i < seeds; i++)
        free(seed[i].bytes);
    return 0;
}
