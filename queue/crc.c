/* queue/crc.c - CRC-32C (polynomial 0x1EDC6F41, reflected), as iSCSI (RFC 3720 appendix B.4) uses
 * it: by the processor's instruction where there is one, else by tables that take eight bytes at
 * once. */
#include <stdbool.h>
#include <string.h>

#include "queue/bytes.h"

/* What each bit of a byte comes to when s more bytes follow it; sums of these make the tables. */
#define SUM(n, b0, b1, b2, b3, b4, b5, b6, b7)                                                     \
    (((n)&1 ? (b0) : 0) ^ ((n)&2 ? (b1) : 0) ^ ((n)&4 ? (b2) : 0) ^ ((n)&8 ? (b3) : 0) ^           \
     ((n)&16 ? (b4) : 0) ^ ((n)&32 ? (b5) : 0) ^ ((n)&64 ? (b6) : 0) ^ ((n)&128 ? (b7) : 0))
#define S0(n)                                                                                      \
    SUM(n, 0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu, 0x105ec76fu, 0x20bd8edeu,           \
        0x417b1dbcu, 0x82f63b78u)
#define S1(n)                                                                                      \
    SUM(n, 0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u, 0x3fc5f181u, 0x7f8be302u,           \
        0xff17c604u, 0xfbc3faf9u)
#define S2(n)                                                                                      \
    SUM(n, 0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u, 0x70a27d8au, 0xe144fb14u,           \
        0xc76580d9u, 0x8b277743u)
#define S3(n)                                                                                      \
    SUM(n, 0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u, 0xe964b13du, 0xd725148bu,           \
        0xaba65fe7u, 0x52a0c93fu)
#define S4(n)                                                                                      \
    SUM(n, 0x38116facu, 0x7022df58u, 0xe045beb0u, 0xc5670b91u, 0x8f2261d3u, 0x1ba8b557u,           \
        0x37516aaeu, 0x6ea2d55cu)
#define S5(n)                                                                                      \
    SUM(n, 0xef306b19u, 0xdb8ca0c3u, 0xb2f53777u, 0x6006181fu, 0xc00c303eu, 0x85f4168du,           \
        0x0e045bebu, 0x1c08b7d6u)
#define S6(n)                                                                                      \
    SUM(n, 0x68032cc8u, 0xd0065990u, 0xa5e0c5d1u, 0x4e2dfd53u, 0x9c5bfaa6u, 0x3d5b83bdu,           \
        0x7ab7077au, 0xf56e0ef4u)
#define S7(n)                                                                                      \
    SUM(n, 0x493c7d27u, 0x9278fa4eu, 0x211d826du, 0x423b04dau, 0x847609b4u, 0x0d006599u,           \
        0x1a00cb32u, 0x34019664u)

#define FOUR(s, n)    s(n), s((n) + 1), s((n) + 2), s((n) + 3)
#define SIXTEEN(s, n) FOUR(s, n), FOUR(s, (n) + 4), FOUR(s, (n) + 8), FOUR(s, (n) + 12)
#define SIXTY4(s, n)  SIXTEEN(s, n), SIXTEEN(s, (n) + 16), SIXTEEN(s, (n) + 32), SIXTEEN(s, (n) + 48)
#define TABLE(s)                                                                                   \
    {                                                                                              \
        SIXTY4(s, 0), SIXTY4(s, 64), SIXTY4(s, 128), SIXTY4(s, 192)                                \
    }

static const uint32_t tables[8][256] = {TABLE(S0), TABLE(S1), TABLE(S2), TABLE(S3),
                                        TABLE(S4), TABLE(S5), TABLE(S6), TABLE(S7)};

uint32_t queue_crc32c_tables(uint32_t seed, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint32_t crc = ~seed;
    for (; len >= 8; p += 8, len -= 8) {
        uint32_t low = crc ^ queue_le32_get(p);
        uint32_t high = queue_le32_get(p + 4);
        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
              tables[4][low >> 24] ^ tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^
              tables[1][high >> 16 & 0xff] ^ tables[0][high >> 24];
    }
    for (; len > 0; p++, len--)
        crc = tables[0][(crc ^ *p) & 0xff] ^ crc >> 8;
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t seed, const void *bytes,
                                                                 size_t len)
{
    const uint8_t *p = bytes;
    uint64_t crc = ~seed;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    uint32_t rest = (uint32_t)crc;
    for (; len > 0; p++, len--)
        rest = __builtin_ia32_crc32qi(rest, *p);
    return ~rest;
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}

#else

static uint32_t by_instruction(uint32_t seed, const void *bytes, size_t len)
{
    return queue_crc32c_tables(seed, bytes, len);
}

static bool has_instruction(void)
{
    return false;
}

#endif

uint32_t queue_crc32c(uint32_t seed, const void *bytes, size_t len)
{
    return has_instruction() ? by_instruction(seed, bytes, len)
                             : queue_crc32c_tables(seed, bytes, len);
}
