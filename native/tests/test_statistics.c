/* Distributions and the list of worst cycles. */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "../src/relaxed.h"
#include "../src/statistics.h"
#include "check.h"

#define MOST 20000

static int by_value(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

/* the smallest value that at least this share of all does not exceed */
static int64_t exact(const int64_t *sorted, uint32_t count, uint32_t permille)
{
    return sorted[(count * (uint64_t)permille + 999) / 1000 - 1];
}

static void check_near(int64_t found, int64_t right)
{
    CHECK(found >= right && (double)(found - right) <= 0.01 * (double)right);
}

static void quantiles_are_within_one_percent_and_the_ends_exact(void)
{
    static int64_t values[MOST];
    struct histogram *histogram = calloc(1, sizeof *histogram);
    struct inphase_quantiles quantiles;

    CHECK(histogram);
    for (int round = 0; round < 300; round++) {
        uint32_t count = 1 + (uint32_t)(check_random() % (round < 200 ? 200 : MOST));
        uint32_t bits = 1 + (uint32_t)(check_random() % 39);

        memset(histogram, 0, sizeof *histogram);
        for (uint32_t i = 0; i < count; i++) {
            values[i] = (int64_t)(check_random() & ((1ULL << bits) - 1));
            if (check_random() % 100 == 0)
                values[i] <<= 39 - bits;
            histogram_add(histogram, values[i]);
        }
        qsort(values, count, sizeof *values, by_value);
        histogram_quantiles(histogram, &quantiles);
        CHECK_EQUAL(quantiles.count, count);
        CHECK_EQUAL(quantiles.min, values[0]);
        CHECK_EQUAL(quantiles.max, values[count - 1]);
        check_near(quantiles.p50, exact(values, count, 500));
        check_near(quantiles.p90, exact(values, count, 900));
        check_near(quantiles.p99, exact(values, count, 990));
        check_near(quantiles.p999, exact(values, count, 999));
    }
    free(histogram);
}

static void values_beyond_the_buckets_are_counted_and_the_ends_stay_exact(void)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    struct inphase_quantiles quantiles;

    CHECK(histogram);
    histogram_quantiles(histogram, &quantiles);
    CHECK(quantiles.count == 0 && quantiles.p50 == 0 && quantiles.max == 0);
    histogram_add(histogram, -5);
    histogram_quantiles(histogram, &quantiles);
    CHECK(quantiles.min == -5 && quantiles.max == -5 && quantiles.p999 == -5);
    histogram_add(histogram, INT64_MAX);
    histogram_add(histogram, INT64_MIN);
    histogram_quantiles(histogram, &quantiles);
    CHECK_EQUAL(quantiles.count, 3);
    CHECK(quantiles.min == INT64_MIN && quantiles.max == INT64_MAX);
    CHECK(quantiles.p50 <= quantiles.p90 && quantiles.p90 <= quantiles.p99 &&
          quantiles.p99 <= quantiles.p999 && quantiles.p999 <= quantiles.max);
    free(histogram);
}

static void the_worst_cycles_are_kept_worst_first(void)
{
    struct statistics *statistics = calloc(1, sizeof *statistics);
    static int64_t values[1000];

    CHECK(statistics);
    for (int i = 0; i < 1000; i++) {
        values[i] = (int64_t)(check_random() % 5000);
        worst_add(statistics, i, values[i], i % 4, i);
        CHECK_EQUAL(load_u32(&statistics->worst_count), i < INPHASE_WORST ? i + 1 : INPHASE_WORST);
    }
    for (int i = 0; i < INPHASE_WORST; i++) {
        int64_t cycle = load_i64(&statistics->worst_cycle[i]);

        CHECK_EQUAL(load_i64(&statistics->worst_late_ns[i]), values[cycle]);
        CHECK_EQUAL(atomic_load(&statistics->worst_device[i]), cycle);
        CHECK_EQUAL(atomic_load(&statistics->worst_phase[i]), cycle % 4);
    }
    qsort(values, 1000, sizeof *values, by_value);
    for (int i = 0; i < INPHASE_WORST; i++)
        CHECK_EQUAL(load_i64(&statistics->worst_late_ns[i]), values[999 - i]);
    free(statistics);
}

int main(void)
{
    check_seed();
    RUN(quantiles_are_within_one_percent_and_the_ends_exact);
    RUN(values_beyond_the_buckets_are_counted_and_the_ends_stay_exact);
    RUN(the_worst_cycles_are_kept_worst_first);
    return 0;
}
