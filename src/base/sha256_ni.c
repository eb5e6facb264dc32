/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 with the SHA extensions of x86 (Intel SDM volume 2, SHA256RNDS2 and its neighbours). */
#include "base/sha256_int.h"

#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>

static bool look(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

/* Asked once: in a virtual machine the question costs a way to the host and back. */
bool sha256_ni_works(void)
{
	static _Atomic int known; /* 1: yes, -1: no */
	int is = atomic_load_explicit(&known, memory_order_relaxed);

	if (!is) {
		is = look() ? 1 : -1;
		atomic_store_explicit(&known, is, memory_order_relaxed);
	}
	return is > 0;
}

/* The next four words of the schedule, from the sixteen before. */
__attribute__((target("sha,sse4.1"))) static __m128i schedule(__m128i a, __m128i b, __m128i c, __m128i d)
{
	__m128i w = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4));

	return _mm_sha256msg2_epu32(w, d);
}

/* The instructions want the state as ABEF and CDGH, from the highest word down. */
__attribute__((target("sha,sse4.1"))) void sha256_ni(
	uint32_t h[static 8], const uint8_t block[static 64])
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i *state = (__m128i *)(void *)h;
	__m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(state), 0xb1);
	__m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(state + 1), 0x1b);
	__m128i abef = _mm_alignr_epi8(badc, efgh, 8);
	__m128i cdgh = _mm_blend_epi16(efgh, badc, 0xf0);
	const __m128i abef_0 = abef, cdgh_0 = cdgh;
	__m128i w[16];

	for (int i = 0; i < 16; i++) {
		const __m128i *k = (const __m128i *)(const void *)(sha256_k + 4 * i);
		__m128i sum;

		if (i < 4)
			w[i] = _mm_shuffle_epi8(
				_mm_loadu_si128((const __m128i *)(const void *)block + i), big_endian);
		else
			w[i] = schedule(w[i - 4], w[i - 3], w[i - 2], w[i - 1]);
		sum = _mm_add_epi32(w[i], _mm_loadu_si128(k));
		cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
		abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
	}
	abef = _mm_shuffle_epi32(_mm_add_epi32(abef, abef_0), 0x1b);
	cdgh = _mm_shuffle_epi32(_mm_add_epi32(cdgh, cdgh_0), 0xb1);
	_mm_storeu_si128(state, _mm_blend_epi16(abef, cdgh, 0xf0));
	_mm_storeu_si128(state + 1, _mm_alignr_epi8(cdgh, abef, 8));
}

#else

bool sha256_ni_works(void)
{
	return false;
}

void sha256_ni(uint32_t h[static 8], const uint8_t block[static 64])
{
	sha256_plain(h, block);
}

#endif
