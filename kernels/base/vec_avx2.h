// Eight lanes of AVX2 + FMA; see vec_scalar.h for the meaning of each function.
#pragma once
#include <immintrin.h>
#include <stdint.h>

namespace irk {
namespace {

struct VecAvx2 {
  static constexpr int N = 8;
  using F = __m256;
  using I = __m256i;
  using M = __m256;

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static void split(const float* p, F& even, F& odd) {
    const F a = load(p), b = load(p + 8);
    const auto in_order = [](F v) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8)); };
    even = in_order(_mm256_shuffle_ps(a, b, 0x88));
    odd = in_order(_mm256_shuffle_ps(a, b, 0xdd));
  }
  static F load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
  static void store_n(float* p, F v, int64_t n) { _mm256_maskstore_ps(p, first(n), v); }
  static F first_n(int64_t n, F a, F b) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(first(n))); }
  template <int S>
  static F rotate(F a) {
    if (S == 4) return _mm256_permute2f128_ps(a, a, 1);
    return S == 2 ? _mm256_permute_ps(a, 0x4e) : _mm256_permute_ps(a, 0xb1);
  }
  static void transpose4(const float* s, int64_t ds, float* d, int64_t dd) {
    __m128 a = _mm_loadu_ps(s), b = _mm_loadu_ps(s + ds), c = _mm_loadu_ps(s + 2 * ds), e = _mm_loadu_ps(s + 3 * ds);
    _MM_TRANSPOSE4_PS(a, b, c, e);
    _mm_storeu_ps(d, a);
    _mm_storeu_ps(d + dd, b);
    _mm_storeu_ps(d + 2 * dd, c);
    _mm_storeu_ps(d + 3 * dd, e);
  }
  static F set(float v) { return _mm256_set1_ps(v); }
  static I seti(int32_t v) { return _mm256_set1_epi32(v); }

  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F sqrt(F a) { return _mm256_sqrt_ps(a); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F floor(F a) { return _mm256_floor_ps(a); }
  static F ceil(F a) { return _mm256_ceil_ps(a); }

  static M lt(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  static M le(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
  static M nan(F a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
  static F sel(M m, F a, F b) { return _mm256_blendv_ps(b, a, m); }

  static I as_i(F a) { return _mm256_castps_si256(a); }
  static F as_f(I a) { return _mm256_castsi256_ps(a); }
  static F to_f(I a) { return _mm256_cvtepi32_ps(a); }
  static I addi(I a, I b) { return _mm256_add_epi32(a, b); }
  static I subi(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I andi(I a, I b) { return _mm256_and_si256(a, b); }
  static I ori(I a, I b) { return _mm256_or_si256(a, b); }
  static I xori(I a, I b) { return _mm256_xor_si256(a, b); }
  template <int S>
  static I shl(I a) {
    return _mm256_slli_epi32(a, S);
  }
  template <int S>
  static I sra(I a) {
    return _mm256_srai_epi32(a, S);
  }
  static F scale(F a, I i, F) {
    I h = sra<1>(i), bias = seti(127);
    return mul(mul(a, as_f(shl<23>(addi(h, bias)))), as_f(shl<23>(addi(subi(i, h), bias))));
  }

 private:
  static I first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace
}  // namespace irk
