/* What the compiled programs of the benchmark share: the clock, sockets on loopback, events, percentiles. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

/* CLOCK_MONOTONIC is the same for every process of the machine, so a time can travel inside an event. */
static inline int64_t now_us(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

static inline void *grown(void *memory, size_t bytes) {
    void *found = realloc(memory, bytes);
    if (!found) fail("realloc");
    return found;
}

/* As many open files as the system allows without asking. */
static inline void many_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) fail("getrlimit");
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* A connection to loopback is on its way; `source` N: from 127.0.0.N, since one address has some 28,000 ports. Gives -1
 * when it was refused at once. */
static inline int dialling(int port, int source) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + (uint32_t)source);
    if (fd < 0) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* The port is chosen when the other end is known: it need be free for this pair only (ip(7)). */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (source > 1 && bind(fd, (struct sockaddr *)&from, sizeof from) < 0) fail("bind");
    if (connect(fd, (struct sockaddr *)&where, sizeof where) == 0 || errno == EINPROGRESS) return fd;
    close(fd);
    return -1;
}

static inline int dial(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&where, sizeof where) < 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static inline void unblock(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

/* Requests are small and the socket was idle, so a short write means that something is badly wrong. */
static inline void send_all(int fd, const char *bytes, size_t size) {
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            usleep(200);
            continue;
        }
        /* A peer that is gone shows when its end is read. */
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
        if (sent < 0) fail("send");
        bytes += sent, size -= (size_t)sent;
    }
}

enum { MOST_BYTES = 60000 };

/* An event for servers that only pass bytes on: `bytes` letters of JSON, as large as what SnackBase sends. */
static inline void event_text(char *text, uint32_t seqno, int writer, int64_t sent_us, int bytes) {
    char head[200];
    int used = snprintf(head, sizeof head, "{\"data\":{\"seqno\":%u,\"writer\":%d,\"sent_us\":%lld,\"body\":\"", seqno, writer,
                        (long long)sent_us);
    if (used + 3 > bytes || bytes >= MOST_BYTES) fail("BYTES is too small or too large");
    memcpy(text, head, (size_t)used);
    memset(text + used, 'x', (size_t)(bytes - used - 3));
    memcpy(text + bytes - 3, "\"}}", 3);
}

/* The lines of a file, one token each. */
static inline int lines_of(const char *path, char ***lines) {
    FILE *file = fopen(path, "r");
    char line[4096];
    int count = 0;
    if (!file) fail(path);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        if (count % 1024 == 0) *lines = grown(*lines, (size_t)(count + 1024) * sizeof **lines);
        (*lines)[count++] = strdup(line);
    }
    fclose(file);
    if (!count) fail(path);
    return count;
}

static inline int ascending(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static inline void sort_us(uint32_t *samples, size_t count) { qsort(samples, count, sizeof *samples, ascending); }

/* Of sorted samples; nearest rank. */
static inline uint32_t percentile(const uint32_t *sorted, size_t count, int percent) {
    if (!count) return 0;
    size_t rank = (count * (size_t)percent + 99) / 100;
    return sorted[rank ? rank - 1 : 0];
}

static inline uint32_t clamped(int64_t us) { return us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us; }

/* A copy that can stand inside a JSON string. */
static inline void keep_note(char *note, size_t room, const char *text, size_t size) {
    if (note[0]) return;
    size_t kept = size < room - 1 ? size : room - 1;
    for (size_t i = 0; i < kept; i++) {
        unsigned char byte = (unsigned char)text[i];
        note[i] = (byte < 32 || byte > 126 || byte == '"' || byte == '\\') ? '\'' : (char)byte;
    }
    note[kept] = 0;
}

#endif
