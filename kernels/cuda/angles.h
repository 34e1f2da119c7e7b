// Sine and cosine of the angles of RoPE.
#pragma once

#include "kernels/cuda/device.h"

namespace lukv::cuda {

// Of 0 <= angle < 2^31. The angle is reduced by whole quarter turns in double (pi / 2 in two parts), so that positions
// of any size cost no accuracy; on [-pi / 4, pi / 4] Taylor's series of degree 9 and 10 are below 2e-9 off. As on the
// CPU; sincosf would want the angle in f32, whose steps are 0.06 at a position of a million, and sincos brings a slow
// path with local memory.
LUKV_DEVICE void SinCosOf(double angle, double* sine, double* cosine) {
  const double turns = rint(angle * 0.63661977236758134308);
  double r = fma(-turns, 1.57079632679489655800, angle);
  r = fma(-turns, 6.12323399573676603587e-17, r);
  const double r2 = r * r;
  double s = 1.0 / 362880;
  s = fma(s, r2, -1.0 / 5040);
  s = fma(s, r2, 1.0 / 120);
  s = fma(s, r2, -1.0 / 6);
  s = fma(s * r2, r, r);
  double c = -1.0 / 3628800;
  c = fma(c, r2, 1.0 / 40320);
  c = fma(c, r2, -1.0 / 720);
  c = fma(c, r2, 1.0 / 24);
  c = fma(c, r2, -0.5);
  c = fma(c, r2, 1.0);
  // Quarter turn q: odd swaps the two; the sine is negative in turns 2 and 3, the cosine in 1 and 2.
  const unsigned quarter = static_cast<unsigned>(turns);
  const double a = (quarter & 1u) != 0 ? c : s;
  const double b = (quarter & 1u) != 0 ? s : c;
  *sine = (quarter & 2u) != 0 ? -a : a;
  *cosine = ((quarter + 1u) & 2u) != 0 ? -b : b;
}

}  // namespace lukv::cuda
