/* A few bodies under gravity, integrated by the leapfrog method. */
#ifndef ORBIT_H
#define ORBIT_H

struct body {
  double x, y, vx, vy, mass;
};

/* Advances `count` bodies by `steps` of length `dt`. */
void advance(struct body* bodies, int count, double dt, long steps);

/* Kinetic plus potential energy: constant but for the error of the method. */
double energy(const struct body* bodies, int count);

#endif
