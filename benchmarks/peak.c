/* The float32 peak of cores: independent chains of fused multiply-adds, in registers alone.
 *
 *     cc -O3 -march=native -pthread peak.c -o peak && ./peak 2        prints the GFLOP/s of two cores together
 *
 * Each thread takes many short readings; its best one counts, for a reading that was disturbed says nothing of the core.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Enough chains for the latency of two multipliers; the chains and two factors fit into the registers of AVX2. */
enum { CHAINS = 12, STEPS = 100000, READINGS = 4000, MOST_THREADS = 256 };
#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *best(void *result) {
  double most = 0.0;
  vector chain[CHAINS];
  for (int c = 0; c < CHAINS; c++) chain[c] = (vector){0} + (float)(c + 1);
  vector factor = (vector){0} + 0.999f, term = (vector){0} + 0.001f;
  /* So that the compiler knows neither of them. */
  __asm__ volatile("" : "+x"(factor), "+x"(term));
  for (int r = 0; r < READINGS; r++) {
    double start = now();
    for (int s = 0; s < STEPS; s++) {
#pragma GCC unroll 16
      for (int c = 0; c < CHAINS; c++) chain[c] = chain[c] * factor + term;
    }
#pragma GCC unroll 16
    for (int c = 0; c < CHAINS; c++) __asm__ volatile("" : "+x"(chain[c]));
    double rate = 2.0 * LANES * CHAINS * STEPS / (now() - start) * 1e-9;
    if (rate > most) most = rate;
  }
  *(double *)result = most;
  return NULL;
}

int main(int count, char **words) {
  int threads = count > 1 ? atoi(words[1]) : 1;
  pthread_t thread[MOST_THREADS];
  double rate[MOST_THREADS], sum = 0.0;
  if (threads < 1 || threads > MOST_THREADS) return 2;
  for (int t = 0; t < threads; t++)
    if (pthread_create(&thread[t], NULL, best, &rate[t])) return 1;
  for (int t = 0; t < threads; t++) {
    pthread_join(thread[t], NULL);
    sum += rate[t];
  }
  printf("%.3f\n", sum);
  return 0;
}
