/* How long a cache line takes from one core to another and back: what ranks pay for whatever they share.
 *
 *     gcc -O2 -pthread benchmarks/round_trip.c -o build/round_trip && build/round_trip
 *
 * Cores 0 and 1 are taken.  Prints the mean of 200,000 round trips [ns].
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define TRIPS 200000

static int64_t turn __attribute__((aligned(128)));

static void pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}

static void wait_for(int64_t value) {
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != value) {
#if defined(__x86_64__)
        __builtin_ia32_pause(); /* as in a barrier */
#endif
    }
}

static void *answer(void *unused) {
    pin(1);
    for (int64_t trip = 0; trip < TRIPS; trip++) {
        wait_for(2 * trip + 1);
        __atomic_store_n(&turn, 2 * trip + 2, __ATOMIC_RELEASE);
    }
    return unused;
}

int main(void) {
    struct timespec begin, end;
    pthread_t other;
    pin(0);
    pthread_create(&other, NULL, answer, NULL);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int64_t trip = 0; trip < TRIPS; trip++) {
        __atomic_store_n(&turn, 2 * trip + 1, __ATOMIC_RELEASE);
        wait_for(2 * trip + 2);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    pthread_join(other, NULL);
    printf("%.0f ns\n", ((end.tv_sec - begin.tv_sec) * 1e9 + end.tv_nsec - begin.tv_nsec) / TRIPS);
    return 0;
}
