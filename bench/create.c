/* Writers: C keep-alive HTTP connections that create records, one request at a time each.
 *
 *   create STYLE PORT PATH TOKEN CLIENTS SECONDS COUNT RATE BATCH PAD      STYLE: snackbase pocketbase
 *
 * Ends after SECONDS or COUNT requests (0 = no limit of that kind). RATE 0: each writer sends its next request when it
 * has the answer to the last; else requests are due at RATE a second in all and times count from when they were due.
 * BATCH > 1: so many records a request, in one transaction. PAD: letters in the records' text. Prints one JSON line.
 *
 * Records carry "seqno" (1, 2, 3 … of each "writer") and "sent_us", by which the subscribers check what they hear.
 */
#include "common.h"

enum { ROOM = 1 << 18, NOTE_BYTES = 300, PATIENCE_S = 60 };

struct writer {
    int fd, number;
    bool busy;
    uint32_t seqno;
    int64_t since_us;
    char *answer;
    size_t size;
};

static const char *path, *token;
static bool pocketbase;
static int port, batch, pad;
static int64_t requests, done, failed;
static uint32_t *samples;
static char note[NOTE_BYTES];

static size_t record(char *text, size_t room, struct writer *it, int64_t sent_us) {
    return (size_t)snprintf(text, room, "{\"seqno\":%u,\"writer\":%d,\"sent_us\":%lld,\"tenant\":\"acme\",\"body\":\"%0*d\"}",
                            ++it->seqno, it->number, (long long)sent_us, pad, 0);
}

static void begin(struct writer *it, int64_t sent_us) {
    static char body[ROOM], request[ROOM + 4096];
    size_t size = 0;
    if (batch > 1) size += (size_t)sprintf(body, pocketbase ? "{\"requests\":[" : "{\"records\":[");
    for (int i = 0; i < batch; i++) {
        if (i) body[size++] = ',';
        if (batch > 1 && pocketbase)
            size += (size_t)sprintf(body + size, "{\"method\":\"POST\",\"url\":\"%s\",\"body\":", path);
        size += record(body + size, sizeof body - size, it, sent_us);
        if (batch > 1 && pocketbase) body[size++] = '}';
    }
    if (batch > 1) size += (size_t)sprintf(body + size, "]}");
    const char *target = batch == 1 ? path : pocketbase ? "/api/batch" : NULL;
    char whole[300];
    if (!target) snprintf(whole, sizeof whole, "%s/batch", path), target = whole;
    int head = snprintf(request, 4096,
                        "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: %s%s\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        target, pocketbase ? "" : "Bearer ", token, size);
    memcpy(request + head, body, size);
    it->busy = true, it->since_us = sent_us, it->size = 0;
    requests++;
    send_all(it->fd, request, (size_t)head + size);
}

/* Whether the whole answer is there: by its announced length, or by the last chunk. */
static bool answered(struct writer *it) {
    it->answer[it->size] = 0;
    char *end = strstr(it->answer, "\r\n\r\n");
    if (!end) return false;
    char *length = strcasestr(it->answer, "\r\ncontent-length:");
    if (length && length < end) return it->size >= (size_t)(end + 4 - it->answer) + strtoul(length + 17, NULL, 10);
    return it->size >= 5 && !memcmp(it->answer + it->size - 5, "0\r\n\r\n", 5);
}

static void readable(struct writer *it) {
    ssize_t got = recv(it->fd, it->answer + it->size, ROOM - 1 - it->size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail("the server closed a writer's connection");
    it->size += (size_t)got;
    if (!answered(it)) return;
    it->busy = false;
    if (it->answer[9] != '2') {
        failed++;
        it->seqno -= (uint32_t)batch;
        keep_note(note, sizeof note, it->answer, it->size);
        return;
    }
    if (done % 65536 == 0) samples = grown(samples, (size_t)(done + 65536) * sizeof *samples);
    samples[done++] = clamped(now_us() - it->since_us);
}

int main(int count, char **words) {
    if (count != 11) {
        fprintf(stderr, "usage: create STYLE PORT PATH TOKEN CLIENTS SECONDS COUNT RATE BATCH PAD\n");
        return 2;
    }
    pocketbase = !strcmp(words[1], "pocketbase");
    port = atoi(words[2]), path = words[3], token = words[4];
    int clients = atoi(words[5]), poll_fd = epoll_create1(0);
    double seconds = atof(words[6]), rate = atof(words[8]);
    int64_t most = atoll(words[7]);
    batch = atoi(words[9]), pad = atoi(words[10]);
    struct writer *writers = calloc((size_t)clients, sizeof *writers);
    for (int i = 0; i < clients; i++) {
        writers[i] = (struct writer){.fd = dial(port), .number = i, .answer = grown(NULL, ROOM)};
        unblock(writers[i].fd);
        struct epoll_event wish = {.events = EPOLLIN, .data.ptr = &writers[i]};
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, writers[i].fd, &wish) < 0) fail("epoll_ctl");
    }
    int64_t start = now_us(), end = seconds > 0 ? start + (int64_t)(seconds * 1e6) : INT64_MAX, last = start;
    for (;;) {
        int64_t now = now_us(), due = now;
        bool over = now >= end || (most && requests >= most), busy = false;
        for (int i = 0; i < clients; i++) {
            if (rate > 0) due = start + (int64_t)((double)requests * 1e6 / rate);
            if (!writers[i].busy && !over && due <= now) {
                begin(&writers[i], rate > 0 ? due : now_us());
                over = most && requests >= most;
            }
            busy = busy || writers[i].busy;
        }
        if (over && !busy) break;
        if (now > last + (int64_t)PATIENCE_S * 1000000) fail("no answer for a minute");
        struct epoll_event found[64];
        int64_t wait_us = rate > 0 && !over && due > now ? due - now : 1000000;
        struct timespec wait = {.tv_sec = wait_us / 1000000, .tv_nsec = wait_us % 1000000 * 1000};
        int ready = epoll_pwait2(poll_fd, found, 64, &wait, NULL);
        for (int i = 0; i < ready; i++) readable(found[i].data.ptr);
        if (ready > 0) last = now_us();
    }
    double elapsed = (double)(now_us() - start) / 1e6;
    sort_us(samples, (size_t)done);
    printf("{\"requests\":%lld,\"created\":%lld,\"failed\":%lld,\"seconds\":%.6f,\"p50_us\":%u,\"p99_us\":%u,"
           "\"max_us\":%u,\"note\":\"%s\"}\n",
           (long long)requests, (long long)done * batch, (long long)failed, elapsed,
           percentile(samples, (size_t)done, 50), percentile(samples, (size_t)done, 99),
           percentile(samples, (size_t)done, 100), note);
    return 0;
}
