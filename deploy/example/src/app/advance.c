#include <math.h>

#include "orbit.h"

static void kick(struct body* bodies, int count, double dt) {
  for (int i = 0; i < count; ++i) {
    for (int j = 0; j < count; ++j) {
      if (i == j) continue;
      double dx = bodies[j].x - bodies[i].x, dy = bodies[j].y - bodies[i].y;
      double square = dx * dx + dy * dy;
      double pull = bodies[j].mass / (square * sqrt(square));
      bodies[i].vx += dt * pull * dx;
      bodies[i].vy += dt * pull * dy;
    }
  }
}

void advance(struct body* bodies, int count, double dt, long steps) {
  for (long step = 0; step < steps; ++step) {
    kick(bodies, count, dt / 2);
    for (int i = 0; i < count; ++i) {
      bodies[i].x += dt * bodies[i].vx;
      bodies[i].y += dt * bodies[i].vy;
    }
    kick(bodies, count, dt / 2);
  }
}
