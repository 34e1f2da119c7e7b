#include "engine/schedule/step_cost.h"

#include <algorithm>

namespace lukv {
namespace {

// An observation counts half after some 140 more.
constexpr double kForgetting = 0.995;
// How little is known at first; in units of the terms below.
constexpr double kFirstVariance = 100;
// A single outlier (another process had the core) moves the fit by no more than this multiple of what was expected.
constexpr double kOutlier = 4;
constexpr int64_t kLearning = 8;  // Observations that are believed as they are.

}  // namespace

// Scaled so that usual work has terms near one.
StepCost::Vector StepCost::Terms(const Work& work) { return {1, work.rows / 64, work.entries / 65536}; }

double StepCost::Predict(const Fit& fit, const Vector& terms) {
  double sum = 0;
  for (int i = 0; i < kTerms; ++i) sum += fit.weight[i] * terms[i];
  return std::max(sum, 0.0);
}

void StepCost::Observe(const Work& work, absl::Duration took) {
  Fit& fit = fits_[static_cast<size_t>(work.kind)];
  if (fit.seen == 0) {
    for (int i = 0; i < kTerms; ++i) fit.covariance[i][i] = kFirstVariance;
  }
  const Vector x = Terms(work);
  double y = 1e3 * absl::ToDoubleSeconds(took);
  const double expected = Predict(fit, x);
  if (fit.seen++ >= kLearning && expected > 0) y = std::min(y, kOutlier * expected);

  Vector px{};
  double xpx = 0;
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j < kTerms; ++j) px[i] += fit.covariance[i][j] * x[j];
    xpx += x[i] * px[i];
  }
  double error = y;
  for (int i = 0; i < kTerms; ++i) error -= fit.weight[i] * x[i];
  const double gain = 1 / (kForgetting + xpx);
  for (int i = 0; i < kTerms; ++i) {
    fit.weight[i] += px[i] * gain * error;
    for (int j = 0; j < kTerms; ++j) {
      fit.covariance[i][j] = (fit.covariance[i][j] - px[i] * px[j] * gain) / kForgetting;
    }
  }
  // Without news in some direction forgetting would let its variance grow without end.
  for (int i = 0; i < kTerms; ++i) {
    if (fit.covariance[i][i] <= kFirstVariance) continue;
    const double shrink = kFirstVariance / fit.covariance[i][i];
    for (Vector& row : fit.covariance) {
      for (double& value : row) value *= shrink;
    }
  }
}

absl::Duration StepCost::Expect(const Work& work) const {
  const Fit& fit = fits_[static_cast<size_t>(work.kind)];
  return absl::Milliseconds(Predict(fit, Terms(work)));
}

}  // namespace lukv
