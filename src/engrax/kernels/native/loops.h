// What the loops are told: a component of a network, its trials and where their numbers lie.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace engrax {

// Rows that loops compute on are padded to a multiple of kPad, so that they are whole vectors; long ones never to a
// multiple of kBad, which would put all of them into the same few places of a cache.
constexpr int64_t kPad = 16;
constexpr int64_t kBad = 512;

inline int64_t padded(int64_t size) {
  const int64_t width = (size + kPad - 1) / kPad * kPad;
  return width % kBad ? width : width + kPad;
}

// Trials that go through a loop together. It depends on the batch alone, as do all sums over trials.
constexpr int64_t kGroup = 16;

inline int64_t group_of(int64_t batch) { return std::clamp<int64_t>((batch + 1) / 2, 1, kGroup); }

inline int64_t words_of(int64_t units) { return (units + 31) / 32; }

// Where rows of numbers are not zero: of each, where its places start and how many there are.
enum class Listed : int32_t { kNot = 0, kOnes = 1, kNumbers = 2 };  // kNot: too few are zero; kOnes: all others are 1

struct List {
  const Listed* what = nullptr;
  const int32_t *spans = nullptr, *places = nullptr;
};

enum class Kind : int64_t { kSpiking = 0, kLeaky = 1, kRate = 2 };
enum class Reset : int64_t { kSubtract = 0, kThreshold = 1, kZero = 2 };
enum class Trace : int64_t { kFull = 0, kSimplified = 1, kNone = 2 };
enum class Activation : int64_t { kTanh = 0, kRelu = 1, kSigmoid = 2 };

// Padded rows of numbers that a population's units have.
//   spiking:  a = rho a + jump z;  v = alpha v (reset) + gain I;  x = v - threshold - beta a;  z = x > 0
//   leaky:    v = alpha v + gain I, the output
//   rate:     v = alpha v + gain phi(I), the output
// With a synapse I is what passes it: i = synapse i + intake I.
// psi(x) = height max(0, 1 - |x| slope) unless psi itself is given.
enum Coefficient {
  kAlpha, kGain, kBias, kThreshold, kRho, kJump, kBeta, kHeight, kSlope, kSynapse, kIntake, kCoefficients
};

// Of them alpha, gain, rho and jump can be learned.
constexpr int64_t kLearnedRows = 4;

// What units send: (steps, batch, units) numbers, perhaps with a list of them; or bits, 32 to a word; or (steps, batch,
// capacity) places, 1 + the unit that sends, up to the first 0, with values or 1. `history` (depth, batch, units),
// oldest first, came before.
template <typename T>
struct Signal {
  int64_t units, depth, capacity;
  const T* dense;
  const uint32_t* bits;
  const int32_t* places;
  const T *values, *history;
  List list;
};

// Pseudo-derivatives that are not zero: a bit for each unit (steps, batch, words), and the numbers themselves, of a
// group of trials one after another from (trial x steps x units) on, as many as `ends` (batch) says at its first trial.
template <typename T>
struct Slopes {
  uint32_t* bits;
  T* values;
  int32_t* ends;
};

// Numbers (steps, batch, size) and (batch, size); a null pointer where there are none.
template <typename T>
struct Population {
  int64_t size, width;  // width: padded
  Kind kind;
  Reset reset;
  Activation activation;
  bool adaptive, synaptic, refractory;
  const T* coefficient[kCoefficients];
  const int32_t* period;  // refractory, steps, padded
  Slopes<T> slopes;

  // Ahead: initial state and its output; what is kept of every step; final state.
  const T *voltage, *adaptation, *current, *history;  // current: the synapse's; history: (depth, batch, size)
  const int32_t* waiting;
  int64_t depth;
  uint32_t* output;  // spikes, as bits
  T *above, *voltages, *adaptations, *currents, *slope;  // slope: phi'(I)
  T *last_voltage, *last_adaptation, *last_current;
  int32_t* last_waiting;

  // Back: the tape, errors that enter, cotangents of the final state; then delta and what is left at the start.
  bool local;
  Trace trace;
  const T* psi;  // in place of slopes; phi'(I)
  const uint32_t* spikes;
  const T *first_spikes, *tape_voltage, *first_voltage, *tape_adaptation, *first_adaptation;
  const T *arriving, *at_voltage, *at_adaptation, *at_current, *final_voltage, *final_adaptation, *final_current;
  T *delta, *total, *start_voltage, *start_adaptation, *start_current, *start_spikes;  // total: delta's sum, padded
  T* learned;  // dE by alpha, gain, rho and jump, (4, padded); null: nobody asks
  T* pending;  // (depth, batch, size), latest first
};

// Ahead: what `pre` sends, or `source` outside, `delay` steps ago, times `fan`, drives `post`.
// Back: delta of `post`, or `error` (steps, batch, units) outside, `delay` steps later, times `weight`, is an error of
// `pre`.
template <typename T>
struct Edge {
  int64_t pre, post;  // -1: outside
  int64_t delay;
  int64_t units;  // ahead: of pre; back: of post
  const T *fan, *weight;  // (pre, post padded), (post, pre padded)
  Signal<T> source;
  const T* error;
};

// The sum over steps and trials of what `pre` sent `delay` steps ago times delta of `post`: (pre, post padded).
// With units each trial has its own, of that many units of `post`: (batch, pre, units padded).
template <typename T>
struct Gradient {
  int64_t post, delay, units;
  Signal<T> pre;
  T* sum;
};

template <typename T>
struct Component {
  int64_t steps, batch;
  std::vector<Population<T>> populations;  // in the order in which they run
  std::vector<Edge<T>> edges;
  std::vector<Gradient<T>> gradients;
};

}  // namespace engrax
