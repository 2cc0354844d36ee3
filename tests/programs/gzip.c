// Compresses standard input to standard output, or IN to OUT, in the format of gzip (RFC 1952).
//
// One block of fixed codes (RFC 1951), matches found over a hash of three bytes: small, not tight.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW = 32768, LONGEST = 258, HASHES = 1 << 15 };

static FILE *out;
static uint32_t bits;
static int filled;

static void put(uint32_t value, int count) {
    bits |= value << filled;
    for (filled += count; filled >= 8; filled -= 8, bits >>= 8) putc(bits & 255, out);
}

static uint32_t reversed(uint32_t value, int count) {
    uint32_t result = 0;
    while (count--) result = result << 1 | (value & 1), value >>= 1;
    return result;
}

static void symbol(int s) {
    if (s < 144) put(reversed(0x30 + s, 8), 8);
    else if (s < 256) put(reversed(0x190 + s - 144, 9), 9);
    else if (s < 280) put(reversed(s - 256, 7), 7);
    else put(reversed(0xC0 + s - 280, 8), 8);
}

static void match(int length, int distance) {
    static const int lengths[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                  31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const int length_bits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const int distances[] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                    33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                    1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    int code = 28;
    while (lengths[code] > length) code--;
    symbol(257 + code);
    put(length - lengths[code], length_bits[code]);
    code = 29;
    while (distances[code] > distance) code--;
    put(reversed(code, 5), 5);
    put(distance - distances[code], code < 2 ? 0 : code / 2 - 1);
}

static void deflate(const uint8_t *data, size_t size) {
    static size_t seen[HASHES];  // one behind the last place with this hash
    put(1, 1), put(1, 2);
    for (size_t at = 0; at < size;) {
        size_t best = 0, from = 0;
        if (at + 3 <= size) {
            uint32_t key = data[at] | data[at + 1] << 8 | data[at + 2] << 16;
            size_t *place = &seen[key * 2654435761u >> 17];
            from = *place;
            *place = at + 1;
            if (from && at - --from <= WINDOW)
                while (best < LONGEST && at + best < size && data[from + best] == data[at + best])
                    best++;
        }
        if (best >= 3) match(best, at - from), at += best;
        else symbol(data[at++]);
    }
    symbol(256);
    if (filled) put(0, 8 - filled);
}

static uint32_t checksum(const uint8_t *data, size_t size) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

int main(int argc, char **argv) {
    FILE *in = argc > 1 ? fopen(argv[1], "rb") : stdin;
    if (!in) return perror(argv[1]), 1;
    out = argc > 2 ? fopen(argv[2], "wb") : stdout;
    if (!out) return perror(argv[2]), 1;
    size_t size = 0, room = 1 << 20;
    uint8_t *data = malloc(room);
    while (data) {
        size += fread(data + size, 1, room - size, in);
        if (size < room) break;
        data = realloc(data, room *= 2);
    }
    if (!data || ferror(in)) return perror("reading"), 1;
    static const uint8_t head[] = {31, 139, 8, 0, 0, 0, 0, 0, 0, 255};
    fwrite(head, 1, sizeof head, out);
    deflate(data, size);
    put(0, 0);
    uint32_t tail[] = {checksum(data, size), size};
    for (int i = 0; i < 2; i++)
        for (int shift = 0; shift < 32; shift += 8) putc(tail[i] >> shift & 255, out);
    if (fclose(out)) return perror("writing"), 1;
    return 0;
}
