// What the loops of loops.inc are told: a component of a network, its trials and where their numbers lie.
#pragma once

#include <cstdint>
#include <vector>

namespace engrax {

// Rows that loops compute on are padded to a multiple of this, so that they are whole vectors.
constexpr int64_t kPad = 16;
// Trials that go through a loop together.
constexpr int64_t kGroup = 16;

inline int64_t padded(int64_t size) { return (size + kPad - 1) / kPad * kPad; }

enum class Kind : int64_t { kSpiking = 0, kLeaky = 1 };
enum class Reset : int64_t { kSubtract = 0, kThreshold = 1, kZero = 2 };

// Padded rows of numbers that a population's units have.
//   spiking:  a = rho a + jump z;  v = alpha v (reset) + gain I;  x = v - threshold - beta a;  z = x > 0
//   leaky:    v = alpha v + gain I, the output
// psi(x) = height max(0, 1 - |x| slope) unless psi itself is given.
enum Coefficient { kAlpha, kGain, kBias, kThreshold, kRho, kJump, kBeta, kHeight, kSlope, kCoefficients };

// Numbers (steps, batch, size) and (batch, size); a null pointer where there are none.
template <typename T>
struct Population {
  int64_t size, width;  // width: padded
  Kind kind;
  Reset reset;
  bool adaptive, refractory;
  const T* coefficient[kCoefficients];
  const int32_t* period;  // refractory, steps, padded

  // Ahead: initial state and its output; what is kept of every step; final state.
  const T *voltage, *adaptation, *history;  // history: (depth, batch, size), oldest first
  const int32_t* waiting;
  int64_t depth;
  T *output, *above, *voltages, *adaptations, *last_voltage, *last_adaptation;
  int32_t* last_waiting;

  // Back: the tape, errors that enter, cotangents of the final state; then delta and what is left at the start.
  bool local, given;  // given: `tape` is psi, not x
  const T *tape, *spikes, *first_spikes, *tape_voltage, *first_voltage, *tape_adaptation;
  const T *arriving, *at_voltage, *at_adaptation, *final_voltage, *final_adaptation;
  T *delta, *start_voltage, *start_adaptation, *start_spikes, *pending;  // pending: (depth, batch, size), latest first
};

// Ahead: outputs of `pre`, or of `source` (steps, batch, units) outside, `delay` steps ago, times `fan`, drive `post`.
// Back: delta of `post`, or `source` outside, `delay` steps later, times `weight`, is an error of `pre`.
template <typename T>
struct Edge {
  int64_t pre, post;  // -1: outside
  int64_t delay;
  int64_t units;  // ahead: of pre; back: of post
  const T *fan, *weight;  // (pre, post padded), (post, pre padded)
  const T* source;
};

template <typename T>
struct Component {
  int64_t steps, batch;
  std::vector<Population<T>> populations;  // in the order in which they run
  std::vector<Edge<T>> edges;
};

}  // namespace engrax
