// The loops of loops.inc as XLA foreign functions.
//
// A component is described by two lists of integers, `populations` and `edges`; arrays come in the order in which
// engrax/kernels/loops.py lists them, those that a population has not left out.

#include "loops.h"

#include <utility>

#include "parallel.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(ENGRAX_X86)
#include <xmmintrin.h>
#endif

namespace ffi = xla::ffi;

#define ENGRAX_DECLARE(NAME)                                     \
  namespace engrax::NAME {                                       \
  template <typename T>                                          \
  void ahead(const Component<T>&, int64_t first, int64_t count); \
  template <typename T>                                          \
  void back(const Component<T>&, int64_t first, int64_t count);  \
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
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
      ahead = avx512::ahead<T>;
      back = avx512::back<T>;
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      ahead = avx2::ahead<T>;
      back = avx2::back<T>;
    }
#endif
  }

  static const Loops& chosen() {
    static const Loops loops;
    return loops;
  }
};

// Numbers too small to be normal count as zero, as in XLA's own programs: they would be a hundred times slower.
class Flush {
#if defined(ENGRAX_X86)
 public:
  Flush() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~Flush() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

// Fresh memory comes in large pages where the system lends them when asked: small ones cost more than the loops.
void in_large_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = uintptr_t(1) << 21;
  const auto start = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (start < end) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#endif
}

class Arrays {
 public:
  Arrays(ffi::RemainingArgs arguments, ffi::RemainingRets results) : arguments_(arguments), results_(results) {}

  // The next argument where there is one.
  template <typename X>
  void take(const X*& pointer, bool there = true) {
    pointer = nullptr;
    if (!there) return;
    auto buffer = arguments_.get<ffi::AnyBuffer>(argument_++);
    if (buffer.has_value()) pointer = static_cast<const X*>(buffer->untyped_data());
    missing_ |= buffer.has_error();
  }

  template <typename X>
  void give(X*& pointer, bool there = true) {
    pointer = nullptr;
    if (!there) return;
    auto buffer = results_.get<ffi::AnyBuffer>(result_++);
    missing_ |= buffer.has_error();
    if (buffer.has_error()) return;
    pointer = static_cast<X*>((*buffer)->untyped_data());
    in_large_pages(pointer, (*buffer)->size_bytes());
  }

  ffi::Error complete() const {
    if (!missing_ && argument_ == arguments_.size() && result_ == results_.size()) return ffi::Error::Success();
    return ffi::Error::InvalidArgument("engrax: arrays of a loop do not fit its description");
  }

 private:
  ffi::RemainingArgs arguments_;
  ffi::RemainingRets results_;
  size_t argument_ = 0, result_ = 0;
  bool missing_ = false;
};

// Integers that describe a population, and an edge; as in engrax/kernels/loops.py.
enum { kSize, kKind, kReset, kAdaptive, kRefractory, kDepth, kKeep, kLocal, kGiven, kFields };
enum { kPre, kPost, kDelay, kUnits, kEdgeFields };
// What of every step is kept, ahead; which arrays there are, back.
enum Keep { kOutput = 1, kAbove = 2, kVoltages = 4, kAdaptations = 8 };
enum Has { kArriving = 1, kAtVoltage = 2, kAtAdaptation = 4 };

template <typename T>
Component<T> described(int64_t steps, int64_t batch, ffi::Span<const int64_t> populations,
                       ffi::Span<const int64_t> edges) {
  Component<T> c{steps, batch, {}, {}};
  for (const int64_t* x = populations.begin(); x < populations.end(); x += kFields) {
    Population<T> p{};
    p.size = x[kSize], p.width = padded(x[kSize]), p.depth = x[kDepth];
    p.kind = Kind(x[kKind]), p.reset = Reset(x[kReset]);
    p.adaptive = x[kAdaptive], p.refractory = x[kRefractory], p.local = x[kLocal], p.given = x[kGiven];
    c.populations.push_back(p);
  }
  for (const int64_t* x = edges.begin(); x < edges.end(); x += kEdgeFields) {
    Edge<T> e{};
    e.pre = x[kPre], e.post = x[kPost], e.delay = x[kDelay], e.units = x[kUnits];
    c.edges.push_back(e);
  }
  return c;
}

template <typename T>
void coefficients(Arrays& arrays, Population<T>& p) {
  const T* rows;
  arrays.take(rows);
  for (int64_t i = 0; i < kCoefficients; ++i) p.coefficient[i] = rows + i * p.width;
}

template <typename T, typename F>
void over_trials(ffi::ThreadPool& pool, const Component<T>& c, F loop) {
  // As few trials to a group as leave every thread its share.
  const int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
  const int64_t group = std::clamp<int64_t>((c.batch + threads - 1) / threads, 1, kGroup);
  const int64_t groups = (c.batch + group - 1) / group;
  in_parallel(pool, groups, [&](int64_t g) {
    Flush flush;
    loop(c, g * group, std::min(group, c.batch - g * group));
  });
}

template <ffi::DataType kType>
ffi::Error ahead_handler(ffi::ThreadPool pool, int64_t steps, int64_t batch, ffi::Span<const int64_t> populations,
                         ffi::Span<const int64_t> edges, ffi::RemainingArgs arguments, ffi::RemainingRets results) {
  using T = ffi::NativeType<kType>;
  auto c = described<T>(steps, batch, populations, edges);
  Arrays arrays(arguments, results);
  const int64_t* fields = populations.begin();
  for (auto& p : c.populations) {
    const int64_t keep = fields[kKeep];
    fields += kFields;
    coefficients(arrays, p);
    arrays.take(p.voltage);
    arrays.take(p.adaptation, p.adaptive);
    arrays.take(p.period, p.refractory);
    arrays.take(p.waiting, p.refractory);
    arrays.take(p.first_spikes, p.kind == Kind::kSpiking);
    arrays.take(p.history, p.depth > 0);
    arrays.give(p.output, keep & kOutput);
    arrays.give(p.above, keep & kAbove);
    arrays.give(p.voltages, keep & kVoltages);
    arrays.give(p.adaptations, keep & kAdaptations);
    arrays.give(p.last_voltage);
    arrays.give(p.last_adaptation, p.adaptive);
    arrays.give(p.last_waiting, p.refractory);
  }
  for (auto& e : c.edges) {
    arrays.take(e.fan);
    arrays.take(e.source, e.pre < 0);
  }
  const auto complete = arrays.complete();
  if (complete.success()) over_trials(pool, c, Loops<T>::chosen().ahead);
  return complete;
}

template <ffi::DataType kType>
ffi::Error back_handler(ffi::ThreadPool pool, int64_t steps, int64_t batch, ffi::Span<const int64_t> populations,
                        ffi::Span<const int64_t> edges, ffi::RemainingArgs arguments, ffi::RemainingRets results) {
  using T = ffi::NativeType<kType>;
  auto c = described<T>(steps, batch, populations, edges);
  Arrays arrays(arguments, results);
  const int64_t* fields = populations.begin();
  for (auto& p : c.populations) {
    const int64_t has = fields[kKeep];
    fields += kFields;
    const bool spiking = p.kind == Kind::kSpiking;
    coefficients(arrays, p);
    arrays.take(p.tape, spiking);
    arrays.take(p.spikes, spiking && p.reset != Reset::kSubtract);
    arrays.take(p.first_spikes, spiking && p.reset != Reset::kSubtract);
    arrays.take(p.tape_voltage, spiking && p.reset == Reset::kZero);
    arrays.take(p.first_voltage, spiking && p.reset == Reset::kZero);
    arrays.take(p.tape_adaptation, p.adaptive && p.reset == Reset::kThreshold);
    arrays.take(p.arriving, has & kArriving);
    arrays.take(p.at_voltage, has & kAtVoltage);
    arrays.take(p.at_adaptation, has & kAtAdaptation);
    arrays.take(p.final_voltage);
    arrays.take(p.final_adaptation, p.adaptive);
    arrays.give(p.delta);
    arrays.give(p.start_voltage);
    arrays.give(p.start_adaptation, p.adaptive);
    arrays.give(p.start_spikes, spiking);
    arrays.give(p.pending, p.depth > 0);
  }
  for (auto& e : c.edges) {
    arrays.take(e.fan);
    arrays.take(e.weight);
    arrays.take(e.source, e.post < 0);
  }
  const auto complete = arrays.complete();
  if (complete.success()) over_trials(pool, c, Loops<T>::chosen().back);
  return complete;
}

}  // namespace
}  // namespace engrax

#define ENGRAX_HANDLER(NAME, FUNCTION, TYPE)                        \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, engrax::FUNCTION<TYPE>,       \
                                ffi::Ffi::Bind()                    \
                                    .Ctx<ffi::ThreadPool>()         \
                                    .Attr<int64_t>("steps")         \
                                    .Attr<int64_t>("batch")         \
                                    .Attr<ffi::Span<const int64_t>>("populations") \
                                    .Attr<ffi::Span<const int64_t>>("edges") \
                                    .RemainingArgs()                \
                                    .RemainingRets())

ENGRAX_HANDLER(engrax_ahead_f32, ahead_handler, ffi::F32);
ENGRAX_HANDLER(engrax_ahead_f64, ahead_handler, ffi::F64);
ENGRAX_HANDLER(engrax_back_f32, back_handler, ffi::F32);
ENGRAX_HANDLER(engrax_back_f64, back_handler, ffi::F64);
