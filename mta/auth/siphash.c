/* mta/auth/siphash.c - see siphash.h. */
#include "mta/auth/siphash.h"

struct state {
    uint64_t v[4];
    uint64_t word;
    size_t len;
};

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static void mix(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static void add_word(struct state *state, uint64_t word)
{
    state->v[3] ^= word;
    mix(state->v);
    mix(state->v);
    state->v[0] ^= word;
}

static void add(struct state *state, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        state->word |= (uint64_t)(unsigned char)bytes[i] << (8 * (state->len++ % 8));
        if (state->len % 8 == 0) {
            add_word(state, state->word);
            state->word = 0;
        }
    }
}

uint64_t siphash(const struct siphash_key *key, struct str a, struct str b)
{
    const uint64_t k0 = key->words[0], k1 = key->words[1];
    struct state state = {.v = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
                                k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}};
    char len[2] = {(char)(a.len & 0xff), (char)(a.len >> 8 & 0xff)};

    add(&state, len, sizeof len);
    add(&state, a.p, a.len);
    add(&state, b.p, b.len);
    add_word(&state, state.word | (uint64_t)state.len << 56);
    state.v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        mix(state.v);
    return state.v[0] ^ state.v[1] ^ state.v[2] ^ state.v[3];
}
