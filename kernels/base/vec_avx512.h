// Sixteen lanes of AVX-512 F/BW/DQ/VL; see vec_scalar.h for the meaning of each function.
#pragma once
#include <immintrin.h>
#include <stdint.h>

namespace irk {
namespace {

struct VecAvx512 {
  static constexpr int N = 16;
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static void split(const float* p, F& even, F& odd) {
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const F a = load(p), b = load(p + 16);
    even = _mm512_permutex2var_ps(a, at, b);
    odd = _mm512_permutex2var_ps(a, _mm512_or_si512(at, _mm512_set1_epi32(1)), b);
  }
  static F load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store_n(float* p, F v, int64_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
  static F first_n(int64_t n, F a, F b) { return _mm512_mask_blend_ps(first(n), b, a); }
  template <int S>
  static F rotate(F a) {
    if (S == 8) return _mm512_shuffle_f32x4(a, a, 0x4e);
    if (S == 4) return _mm512_shuffle_f32x4(a, a, 0xb1);
    return S == 2 ? _mm512_permute_ps(a, 0x4e) : _mm512_permute_ps(a, 0xb1);
  }
  static void transpose4(const float* s, int64_t ds, float* d, int64_t dd) {
    __m128 a = _mm_loadu_ps(s), b = _mm_loadu_ps(s + ds), c = _mm_loadu_ps(s + 2 * ds), e = _mm_loadu_ps(s + 3 * ds);
    _MM_TRANSPOSE4_PS(a, b, c, e);
    _mm_storeu_ps(d, a);
    _mm_storeu_ps(d + dd, b);
    _mm_storeu_ps(d + 2 * dd, c);
    _mm_storeu_ps(d + 3 * dd, e);
  }
  static F set(float v) { return _mm512_set1_ps(v); }
  static I seti(int32_t v) { return _mm512_set1_epi32(v); }

  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F floor(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  static F ceil(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }

  static M lt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static M le(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
  static M nan(F a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
  static F sel(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }

  static I as_i(F a) { return _mm512_castps_si512(a); }
  static F as_f(I a) { return _mm512_castsi512_ps(a); }
  static F to_f(I a) { return _mm512_cvtepi32_ps(a); }
  static I addi(I a, I b) { return _mm512_add_epi32(a, b); }
  static I subi(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I andi(I a, I b) { return _mm512_and_si512(a, b); }
  static I ori(I a, I b) { return _mm512_or_si512(a, b); }
  static I xori(I a, I b) { return _mm512_xor_si512(a, b); }
  template <int S>
  static I shl(I a) {
    return _mm512_slli_epi32(a, S);
  }
  template <int S>
  static I sra(I a) {
    return _mm512_srai_epi32(a, S);
  }
  static F scale(F a, I, F n) { return _mm512_scalef_ps(a, n); }

 private:
  static M first(int64_t n) { return static_cast<M>((1u << n) - 1u); }
};

}  // namespace
}  // namespace irk
