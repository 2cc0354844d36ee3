// Sorts the numbers of a text, one in each line: `sort IN OUT`.
//
// It writes beside the target and renames, as careful programs do, and takes its input away.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int compare(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: sort IN OUT\n");
        return 2;
    }
    FILE *in = fopen(argv[1], "r");
    if (!in) return fail(argv[1]);
    size_t count = 0, room = 1 << 16;
    long long *numbers = malloc(room * sizeof *numbers);
    char line[64];
    while (numbers && fgets(line, sizeof line, in)) {
        if (count == room) numbers = realloc(numbers, (room *= 2) * sizeof *numbers);
        if (numbers) numbers[count++] = strtoll(line, NULL, 10);
    }
    if (!numbers) return fail("memory");
    fclose(in);
    if (remove(argv[1])) return fail(argv[1]);
    qsort(numbers, count, sizeof *numbers, compare);

    FILE *out = fopen("/tmp/sorted", "w");
    if (!out) return fail("/tmp/sorted");
    for (size_t i = 0; i < count; i++) fprintf(out, "%lld\n", numbers[i]);
    if (fclose(out)) return fail("/tmp/sorted");
    if (rename("/tmp/sorted", argv[2])) return fail(argv[2]);
    printf("%zu numbers\n", count);
    return 0;
}
