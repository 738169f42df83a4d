// The widest instructions that the processor has, of those that kernels.cc is compiled for.
#pragma once

namespace engrax {

enum class Instructions { kBase, kAvx2, kAvx512 };

inline Instructions widest() {
#ifdef ENGRAX_X86
  __builtin_cpu_init();
  // As compiled for in CMakeLists.txt, all of them.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return Instructions::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Instructions::kAvx2;
#endif
  return Instructions::kBase;
}

}  // namespace engrax
