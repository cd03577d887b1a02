#include <math.h>

#include "orbit.h"

double energy(const struct body* bodies, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i) {
    sum += bodies[i].mass * (bodies[i].vx * bodies[i].vx + bodies[i].vy * bodies[i].vy) / 2;
    for (int j = 0; j < i; ++j) {
      sum -= bodies[i].mass * bodies[j].mass /
             hypot(bodies[i].x - bodies[j].x, bodies[i].y - bodies[j].y);
    }
  }
  return sum;
}
