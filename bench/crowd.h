/* The subscribers of load.c: what each has heard, and whether it was what it should have heard. */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include "common.h"

enum kind { SNACKBASE_WS, SNACKBASE_SSE, POCKETBASE_SSE, FLOOR_WS, NCHAN_WS, NCHAN_SSE, NATS_WS, KINDS };
static const char *const kind_names[] = {"snackbase-ws", "snackbase-sse", "pocketbase-sse", "floor-ws",
                                         "nchan-ws",     "nchan-sse",     "nats-ws"};
/* DIALLING and GREETING: no answer yet. JOINING: not subscribed yet. RETURNING: what was missed comes first. */
enum state { WAITING, DIALLING, GREETING, JOINING, RETURNING, LIVE, LOST };

enum { MOST_WRITERS = 64, NOTE_BYTES = 200, POSITION_BYTES = 132 };
#define MOST_SAMPLES (8u << 20)

struct connection {
    int fd;
    enum state state;
    bool chunked, in_chunk, returns;
    size_t chunk_left;
    char *raw, *text; /* bytes as they came and are not understood yet; an event stream's body, past its chunks */
    size_t raw_size, raw_room, text_size, text_room;
    uint32_t received, last[MOST_WRITERS];
    int64_t again_us;              /* when a connection that was refused tries again */
    char position[POSITION_BYTES]; /* after the newest message that had one */
};

static enum kind kind;
static int wanted, greeting, live, lost, returned, refusals;
static struct connection *connections;

/* Whether each connection hears but a part of what a writer writes: then numbers only have to rise. */
static bool sparse;
static uint64_t received, bytes, gaps, repeats, others;
static int64_t first_us, last_us, back_us;
static uint32_t target, *samples;
static uint64_t total_target;
static size_t sample_count, sample_room;
static int complete;
static char note[NOTE_BYTES];

static bool is_websocket(void) {
    return kind == SNACKBASE_WS || kind == FLOOR_WS || kind == NCHAN_WS || kind == NATS_WS;
}

static int64_t number_after(const char *text, size_t size, const char *name, int64_t absent) {
    const char *found = memmem(text, size, name, strlen(name));
    return found ? strtoll(found + strlen(name), NULL, 10) : absent;
}

static void event(struct connection *it, const char *text, size_t size, int64_t seqno) {
    int64_t now = now_us();
    int64_t writer = number_after(text, size, "\"writer\":", 0);
    int64_t sent = number_after(text, size, "\"sent_us\":", now);
    uint32_t *last = &it->last[writer >= 0 && writer < MOST_WRITERS ? writer : 0];
    if (seqno <= *last)
        repeats++;
    else {
        if (!sparse) gaps += (uint64_t)(seqno - *last - 1);
        *last = (uint32_t)seqno;
    }
    if (!received) first_us = now;
    last_us = now;
    received++, bytes += size;
    if (++it->received == target) complete++;
    if (sample_count == sample_room && sample_room < MOST_SAMPLES)
        samples = grown(samples, (sample_room = sample_room ? sample_room * 2 : 4096) * sizeof *samples);
    if (sample_count < sample_room) samples[sample_count++] = clamped(now - sent);
}

static void keep_position(struct connection *it, const char *text, size_t size) {
    const char *found = memmem(text, size, "\"position\":\"", 12);
    if (!found) return;
    size_t length = 0, left = size - (size_t)(found + 12 - text);
    while (length < left && length < POSITION_BYTES - 1 && found[12 + length] != '"') length++;
    memcpy(it->position, found + 12, length);
    it->position[length] = 0;
}

static void now_live(struct connection *it) {
    if (it->state == LIVE) return;
    it->state = LIVE;
    greeting--, live++;
    if (it->returns) returned++, back_us = now_us();
}

static void mark(void) {
    for (int i = 0; i < wanted; i++) {
        connections[i].received = 0;
        memset(connections[i].last, 0, sizeof connections[i].last);
    }
    received = bytes = gaps = repeats = others = 0;
    first_us = last_us = 0;
    sample_count = 0;
    note[0] = 0;
    printf("{\"marked\":true}\n");
}

static void report(void) {
    uint32_t least = UINT32_MAX, most = 0;
    for (int i = 0; i < wanted; i++) {
        if (connections[i].received < least) least = connections[i].received;
        if (connections[i].received > most) most = connections[i].received;
    }
    sort_us(samples, sample_count);
    printf("{\"connections\":%d,\"live\":%d,\"lost\":%d,\"received\":%llu,\"least\":%u,\"most\":%u,\"gaps\":%llu,"
           "\"repeats\":%llu,\"others\":%llu,\"bytes\":%llu,\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u,"
           "\"first_us\":%lld,\"last_us\":%lld,\"returned\":%d,\"refusals\":%d,\"back_us\":%lld,\"note\":\"%s\"}\n",
           wanted, live, lost, (unsigned long long)received, least, most, (unsigned long long)gaps,
           (unsigned long long)repeats, (unsigned long long)others, (unsigned long long)bytes,
           percentile(samples, sample_count, 50), percentile(samples, sample_count, 99),
           percentile(samples, sample_count, 100), (long long)first_us, (long long)last_us, returned, refusals,
           (long long)back_us, note);
}

#endif
