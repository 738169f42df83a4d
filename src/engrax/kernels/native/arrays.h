// Arrays of a foreign function in the order in which they were listed, and the memory that they lie in.
#pragma once

#include <cstdint>

#include "xla/ffi/api/ffi.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(ENGRAX_X86)
#include <xmmintrin.h>
#endif

namespace ffi = xla::ffi;

namespace engrax {

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
inline void in_large_pages(void* data, size_t bytes) {
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

}  // namespace engrax
