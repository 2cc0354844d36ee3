/* Counts words: how many in all, how many different ones, and which are the most frequent.
 *
 *   wordcount [-n COUNT] [FILE ...]
 *
 * Reads the files, or standard input if none is given.  A word is a run of ASCII letters, digits,
 * inner apostrophes and bytes above 127 (so UTF-8 letters hold together); case does not matter for
 * ASCII.  Equal counts are ordered by the word's bytes, so the same text gives the same output
 * everywhere.  Exit codes: 0 counted, 1 a file cannot be read or memory ran out, 2 usage.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORD = 255, FIRST_SLOTS = 1 << 12, DEFAULT_TOP = 10 };

struct word {
    char *text;
    uint64_t count;
};

static struct word *slots;
static size_t slot_count, word_count;
static uint64_t total_words, total_lines, total_bytes;

static void fail(const char *what) {
    fprintf(stderr, "wordcount: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("memory");
    return memory;
}

/* FNV-1a, 64 bits. */
static uint64_t hash(const char *text) {
    uint64_t h = 14695981039346656037u;
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

/* The slot that holds the word, or the free slot where it belongs. */
static struct word *find(struct word *table, size_t size, const char *text) {
    size_t i = (size_t)hash(text) & (size - 1);
    while (table[i].text != NULL && strcmp(table[i].text, text) != 0)
        i = (i + 1) & (size - 1);
    return &table[i];
}

static void grow(void) {
    size_t size = slot_count * 2;
    struct word *table = allocate(size, sizeof *table);
    for (size_t i = 0; i < slot_count; i++)
        if (slots[i].text != NULL)
            *find(table, size, slots[i].text) = slots[i];
    free(slots);
    slots = table;
    slot_count = size;
}

static void add(const char *text, size_t length) {
    struct word *slot = find(slots, slot_count, text);
    total_words++;
    if (slot->text == NULL) {
        slot->text = allocate(length + 1, 1);
        memcpy(slot->text, text, length);
        if (++word_count * 2 > slot_count) {
            slot->count = 1;
            grow();
            return;
        }
    }
    slot->count++;
}

static int lower(int c) {
    return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

static int in_word(int c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c > 127;
}

static void count(FILE *file, const char *name) {
    char word[MAX_WORD + 1];
    size_t length = 0;
    int c;
    do {
        c = getc(file);
        if (c != EOF)
            total_bytes++;
        if (c == '\n')
            total_lines++;
        c = lower(c);
        if (c != EOF && (in_word(c) || (c == '\'' && length > 0))) {
            if (length < MAX_WORD)
                word[length++] = (char)c;
            continue;
        }
        while (length > 0 && word[length - 1] == '\'')
            length--;
        if (length > 0) {
            word[length] = '\0';
            add(word, length);
        }
        length = 0;
    } while (c != EOF);
    if (ferror(file))
        fail(name);
}

static int by_count(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return strcmp(x->text, y->text);
}

static int usage(void) {
    fputs("usage: wordcount [-n COUNT] [FILE ...]\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    size_t top = DEFAULT_TOP, found = 0;
    int first = 1;
    if (argc > 1 && strcmp(argv[1], "-n") == 0) {
        char *end = NULL;
        if (argc < 3)
            return usage();
        top = (size_t)strtoul(argv[2], &end, 10);
        if (end == argv[2] || *end != '\0')
            return usage();
        first = 3;
    } else if (argc > 1 && argv[1][0] == '-') {
        return usage();
    }
    slot_count = FIRST_SLOTS;
    slots = allocate(slot_count, sizeof *slots);
    if (first == argc)
        count(stdin, "standard input");
    for (int i = first; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL)
            fail(argv[i]);
        count(file, argv[i]);
        fclose(file);
    }
    for (size_t i = 0; i < slot_count; i++)
        if (slots[i].text != NULL)
            slots[found++] = slots[i];
    qsort(slots, found, sizeof *slots, by_count);
    for (size_t i = 0; i < found && i < top; i++)
        printf("%8llu %s\n", (unsigned long long)slots[i].count, slots[i].text);
    printf("%llu words, %zu different, %llu lines, %llu bytes\n", (unsigned long long)total_words,
           word_count, (unsigned long long)total_lines, (unsigned long long)total_bytes);
    return fflush(stdout) == 0 ? 0 : 1;
}
