#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orbit.h"

#define BODIES 3

static const struct body start[BODIES] = {
    {0, 0, 0, -0.01, 1}, {1, 0, 0, 1, 0.01}, {2, 0, 0, 0.7, 0.001}};

/* The energy must not drift over many orbits. */
static int self_test(void) {
  struct body bodies[BODIES];
  memcpy(bodies, start, sizeof start);
  double before = energy(bodies, BODIES);
  advance(bodies, BODIES, 0.001, 4000000);
  double drift = fabs(energy(bodies, BODIES) - before) / fabs(before);
  printf("self-test: energy drift %.1e\n", drift);
  return drift < 1e-4 ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "--self-test") == 0) return self_test();
  struct body bodies[BODIES];
  memcpy(bodies, start, sizeof start);
  int lines = argc > 1 ? atoi(argv[1]) : 10;
  for (int i = 0; i < lines; ++i) {
    advance(bodies, BODIES, 0.001, 1000);
    printf("t=%d x=%.3f y=%.3f\n", i + 1, bodies[1].x, bodies[1].y);
  }
  return 0;
}
