/* What every C test uses: checks that live in every build, and a seeded generator. */
#pragma once

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);             \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

/* two integers; both are shown when they differ */
#define CHECK_EQUAL(left, right)                                                                  \
    do {                                                                                          \
        long long left_ = (long long)(left), right_ = (long long)(right);                         \
        if (left_ != right_) {                                                                    \
            fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #left, left_,  \
                    #right, right_);                                                              \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

#define RUN(test)                                                                                 \
    do {                                                                                          \
        printf("%s\n", #test);                                                                    \
        fflush(stdout);                                                                           \
        test();                                                                                   \
    } while (0)

static uint64_t check_state;

/* a new seed for each run, or that of INPHASE_SEED; printed, so that a failure can be repeated */
static inline void check_seed(void)
{
    const char *given = getenv("INPHASE_SEED");
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    check_state = given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_sec ^ (uint64_t)now.tv_nsec;
    printf("INPHASE_SEED=%" PRIu64 "\n", check_state);
    fflush(stdout);
}

/* splitmix64 */
static inline uint64_t check_random(void)
{
    uint64_t x = check_state += 0x9e3779b97f4a7c15ULL;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}
