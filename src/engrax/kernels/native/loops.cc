// The loops of ahead.inc and back.inc as XLA foreign functions.
//
// A component is described by lists of integers, `populations`, `edges` and `gradients`; arrays come in the order in which
// engrax/kernels/loops.py lists them, those that a population has not left out.

#include <utility>

#include "arrays.h"
#include "loops.h"
#include "parallel.h"
#include "processor.h"

#define ENGRAX_DECLARE(NAME)                                     \
  namespace engrax::NAME {                                       \
  template <typename T>                                          \
  void ahead(const Component<T>&, int64_t first, int64_t count); \
  template <typename T>                                          \
  void back(const Component<T>&, int64_t first, int64_t count,   \
            T* const* sums);                                     \
  }
ENGRAX_DECLARE(base)
#ifdef ENGRAX_X86
ENGRAX_DECLARE(avx2)
ENGRAX_DECLARE(avx512)
#endif

namespace engrax {
namespace {

template <typename T>
struct Loops {
  decltype(&base::ahead<T>) ahead = base::ahead<T>;
  decltype(&base::back<T>) back = base::back<T>;

  Loops() {
#ifdef ENGRAX_X86
    const auto has = widest();
    if (has == Instructions::kAvx512) ahead = avx512::ahead<T>, back = avx512::back<T>;
    if (has == Instructions::kAvx2) ahead = avx2::ahead<T>, back = avx2::back<T>;
#endif
  }

  static const Loops& chosen() {
    static const Loops loops;
    return loops;
  }
};

// Integers that describe a population, an edge and a gradient; as in engrax/kernels/loops.py.
enum { kSize, kKind, kReset, kActivation, kAdaptive, kSynaptic, kRefractory, kDepth, kKeep, kLocal, kGiven, kTrace, kFields };
enum { kPre, kPost, kDelay, kUnits, kForm, kPast, kCapacity, kEdgeFields };
enum { kTrialUnits = kPre };  // of a gradient, in the place of a population that it does not need
// How a signal is given: numbers, bits, events that are 1, events with values, numbers with a list.
enum { kNumbers, kBits, kOnes, kEvents, kListed };
// What of every step is kept, ahead; which arrays there are, back.
enum Keep { kAbove = 1, kVoltages = 2, kAdaptations = 4, kCurrents = 8, kPhi = 16, kSlopes = 32 };
enum Has { kArriving = 1, kAtVoltage = 2, kAtAdaptation = 4, kAtCurrent = 8, kDelta = 16, kLearned = 32 };

template <typename T>
Component<T> described(int64_t steps, int64_t batch, ffi::Span<const int64_t> populations) {
  Component<T> c{steps, batch, {}, {}, {}};
  for (const int64_t* x = populations.begin(); x < populations.end(); x += kFields) {
    Population<T> p{};
    p.size = x[kSize], p.width = padded(x[kSize]), p.depth = x[kDepth];
    p.kind = Kind(x[kKind]), p.reset = Reset(x[kReset]), p.activation = Activation(x[kActivation]);
    p.adaptive = x[kAdaptive], p.synaptic = x[kSynaptic], p.refractory = x[kRefractory], p.local = x[kLocal];
    p.trace = Trace(x[kTrace]);
    c.populations.push_back(p);
  }
  return c;
}

template <typename T>
void coefficients(Arrays& arrays, Population<T>& p) {
  const T* rows;
  arrays.take(rows);
  for (int64_t i = 0; i < kCoefficients; ++i) p.coefficient[i] = rows + i * p.width;
}

template <typename T>
Signal<T> signal(Arrays& arrays, const int64_t* fields) {
  const int64_t form = fields[kForm];
  Signal<T> s{fields[kUnits], fields[kPast], fields[kCapacity]};
  arrays.take(s.dense, form == kNumbers || form == kListed);
  arrays.take(s.bits, form == kBits);
  arrays.take(s.places, form == kOnes || form == kEvents);
  arrays.take(s.values, form == kEvents);
  arrays.take(s.list.what, form == kListed);
  arrays.take(s.list.spans, form == kListed);
  arrays.take(s.list.places, form == kListed);
  arrays.take(s.history, s.depth > 0);
  return s;
}

// `loop(first, count)` for every group of trials, by `parts`, each of which takes its groups in their order.
template <typename F>
void over_trials(ffi::ThreadPool& pool, int64_t batch, int64_t parts, F loop) {
  const int64_t group = group_of(batch), groups = (batch + group - 1) / group;
  parts = std::min(parts, groups);
  in_parallel(pool, parts, [&](int64_t part) {
    Flush flush;
    for (int64_t g = part * groups / parts; g < (part + 1) * groups / parts; ++g) {
      loop(part, g * group, std::min(group, batch - g * group));
    }
  });
}

template <ffi::DataType kType>
ffi::Error ahead_handler(ffi::ThreadPool pool, int64_t steps, int64_t batch, ffi::Span<const int64_t> populations,
                         ffi::Span<const int64_t> edges, ffi::RemainingArgs arguments, ffi::RemainingRets results) {
  using T = ffi::NativeType<kType>;
  auto c = described<T>(steps, batch, populations);
  Arrays arrays(arguments, results);
  const int64_t* fields = populations.begin();
  for (auto& p : c.populations) {
    const int64_t keep = fields[kKeep];
    fields += kFields;
    const bool spiking = p.kind == Kind::kSpiking;
    coefficients(arrays, p);
    arrays.take(p.voltage);
    arrays.take(p.adaptation, p.adaptive);
    arrays.take(p.current, p.synaptic);
    arrays.take(p.period, p.refractory);
    arrays.take(p.waiting, p.refractory);
    arrays.take(p.first_spikes, spiking);
    arrays.take(p.history, p.depth > 0);
    arrays.give(p.output, spiking);
    arrays.give(p.above, keep & kAbove);
    arrays.give(p.voltages, keep & kVoltages);
    arrays.give(p.adaptations, keep & kAdaptations);
    arrays.give(p.currents, keep & kCurrents);
    arrays.give(p.slope, keep & kPhi);
    arrays.give(p.slopes.bits, keep & kSlopes);
    arrays.give(p.slopes.values, keep & kSlopes);
    arrays.give(p.slopes.ends, keep & kSlopes);
    arrays.give(p.last_voltage);
    arrays.give(p.last_adaptation, p.adaptive);
    arrays.give(p.last_current, p.synaptic);
    arrays.give(p.last_waiting, p.refractory);
  }
  for (const int64_t* x = edges.begin(); x < edges.end(); x += kEdgeFields) {
    Edge<T> e{};
    e.pre = x[kPre], e.post = x[kPost], e.delay = x[kDelay], e.units = x[kUnits];
    arrays.take(e.fan);
    if (e.pre < 0) e.source = signal<T>(arrays, x);
    c.edges.push_back(e);
  }
  const auto complete = arrays.complete();
  if (complete.failure()) return complete;
  const auto loop = Loops<T>::chosen().ahead;
  over_trials(pool, batch, batch, [&](int64_t, int64_t first, int64_t count) { loop(c, first, count); });
  return complete;
}

// Numbers that are summed, and the most parts that have sums of their own: more sums, more memory.
constexpr int64_t kLarge = 1 << 18;
constexpr int64_t kParts = 8;

template <ffi::DataType kType>
ffi::Error back_handler(ffi::ThreadPool pool, int64_t steps, int64_t batch, ffi::Span<const int64_t> populations,
                        ffi::Span<const int64_t> edges, ffi::Span<const int64_t> gradients,
                        ffi::RemainingArgs arguments, ffi::RemainingRets results) {
  using T = ffi::NativeType<kType>;
  auto c = described<T>(steps, batch, populations);
  Arrays arrays(arguments, results);
  const int64_t* fields = populations.begin();
  for (auto& p : c.populations) {
    const int64_t has = fields[kKeep], given = fields[kGiven];
    fields += kFields;
    const bool spiking = p.kind == Kind::kSpiking, learned = has & kLearned;
    coefficients(arrays, p);
    const uint32_t* bits;
    const T* values;
    const int32_t* ends;
    arrays.take(p.psi, given || p.kind == Kind::kRate);
    arrays.take(bits, spiking && !given);
    arrays.take(values, spiking && !given);
    arrays.take(ends, spiking && !given);
    p.slopes = {const_cast<uint32_t*>(bits), const_cast<T*>(values), const_cast<int32_t*>(ends)};
    arrays.take(p.spikes, spiking && (learned || p.reset != Reset::kSubtract));
    arrays.take(p.first_spikes, spiking && (learned || p.reset != Reset::kSubtract));
    arrays.take(p.tape_voltage, learned || (spiking && p.reset == Reset::kZero));
    arrays.take(p.first_voltage, learned || (spiking && p.reset == Reset::kZero));
    arrays.take(p.tape_adaptation, p.adaptive && (learned || p.reset == Reset::kThreshold));
    arrays.take(p.first_adaptation, p.adaptive && learned);
    arrays.take(p.arriving, has & kArriving);
    arrays.take(p.at_voltage, has & kAtVoltage);
    arrays.take(p.at_adaptation, has & kAtAdaptation);
    arrays.take(p.at_current, has & kAtCurrent);
    arrays.take(p.final_voltage);
    arrays.take(p.final_adaptation, p.adaptive);
    arrays.take(p.final_current, p.synaptic);
    arrays.give(p.delta, has & kDelta);
    arrays.give(p.total);
    arrays.give(p.learned, learned);
    arrays.give(p.start_voltage);
    arrays.give(p.start_adaptation, p.adaptive);
    arrays.give(p.start_current, p.synaptic);
    arrays.give(p.start_spikes, spiking);
    arrays.give(p.pending, p.depth > 0);
  }
  for (const int64_t* x = edges.begin(); x < edges.end(); x += kEdgeFields) {
    Edge<T> e{};
    e.pre = x[kPre], e.post = x[kPost], e.delay = x[kDelay], e.units = x[kUnits];
    arrays.take(e.fan);
    arrays.take(e.weight);
    arrays.take(e.error, e.post < 0);
    c.edges.push_back(e);
  }
  for (const int64_t* x = gradients.begin(); x < gradients.end(); x += kEdgeFields) {
    Gradient<T> g{x[kPost], x[kDelay], x[kTrialUnits], signal<T>(arrays, x), nullptr};
    arrays.give(g.sum);
    c.gradients.push_back(g);
  }
  const auto complete = arrays.complete();
  if (complete.failure()) return complete;

  // Each part has sums of its own, the first one the results; they are added in order.
  std::vector<std::pair<T*, int64_t>> sums;
  for (const auto& g : c.gradients) {
    // Those of each trial nobody else adds to.
    sums.emplace_back(g.sum, g.units ? 0 : g.pre.units * c.populations[g.post].width);
  }
  for (const auto& p : c.populations) sums.emplace_back(p.total, p.width);
  for (const auto& p : c.populations) sums.emplace_back(p.learned, p.learned ? kLearnedRows * p.width : 0);
  int64_t size = 0;
  for (const auto& [sum, length] : sums) size += length;
  const int64_t groups = (batch + group_of(batch) - 1) / group_of(batch);
  const int64_t parts = std::min(groups, size > kLarge ? kParts / 2 : kParts);
  std::unique_ptr<T[]> others(new T[(parts - 1) * size]);
  in_large_pages(others.get(), (parts - 1) * size * sizeof(T));
  const auto part_of = [&](int64_t part) {
    std::vector<T*> own;
    T* next = others.get() + (part - 1) * size;
    for (const auto& [sum, length] : sums) {
      own.push_back(part && length ? next : sum);
      next += length;
    }
    return own;
  };
  in_parallel(pool, parts, [&](int64_t part) {
    const auto own = part_of(part);
    for (size_t k = 0; k < sums.size(); ++k) std::fill_n(own[k], sums[k].second, T(0));
  });
  const auto loop = Loops<T>::chosen().back;
  over_trials(pool, batch, parts, [&](int64_t part, int64_t first, int64_t count) {
    loop(c, first, count, part_of(part).data());
  });
  in_parallel(pool, parts, [&](int64_t slice) {
    for (int64_t part = 1; part < parts; ++part) {
      const auto own = part_of(part);
      for (size_t k = 0; k < sums.size(); ++k) {
        const auto [sum, length] = sums[k];
        for (int64_t i = slice * length / parts; i < (slice + 1) * length / parts; ++i) sum[i] += own[k][i];
      }
    }
  });
  return complete;
}

}  // namespace
}  // namespace engrax

#define ENGRAX_LOOP                                                       \
  ffi::Ffi::Bind()                                                        \
      .Ctx<ffi::ThreadPool>()                                             \
      .Attr<int64_t>("steps")                                             \
      .Attr<int64_t>("batch")                                             \
      .Attr<ffi::Span<const int64_t>>("populations")                      \
      .Attr<ffi::Span<const int64_t>>("edges")

#define ENGRAX_AHEAD(NAME, TYPE) \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, engrax::ahead_handler<TYPE>, ENGRAX_LOOP.RemainingArgs().RemainingRets())
#define ENGRAX_BACK(NAME, TYPE)                                   \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, engrax::back_handler<TYPE>, \
                                ENGRAX_LOOP.Attr<ffi::Span<const int64_t>>("gradients").RemainingArgs().RemainingRets())

ENGRAX_AHEAD(engrax_ahead_f32, ffi::F32);
ENGRAX_AHEAD(engrax_ahead_f64, ffi::F64);
ENGRAX_BACK(engrax_back_f32, ffi::F32);
ENGRAX_BACK(engrax_back_f64, ffi::F64);
