/* The floor: what fan-out costs a C program that does nothing but send(2). No token, no rule, no storage.
 *
 *   floor                 prints {"port":N}, then obeys lines on stdin:
 *   send EVENTS JOINED BYTES RATE SKIPPED
 *
 * Sends EVENTS events of BYTES payload bytes to every connection: JOINED of them in one send(2), at RATE events a second
 * (0: at once). The bytes are made once and shared. SKIPPED is a seqno to leave out (0: none), which plants a gap.
 * Answers any request with 101. Prints {"sent":N} for each command. Ends with stdin.
 */
#include "common.h"

#include <poll.h>

enum { MOST_CONNECTIONS = 20000 };

static int connections[MOST_CONNECTIONS], count, poll_fd, listener;

/* One unmasked text frame (RFC 6455, 5.2) around an event of `bytes` letters. */
static size_t frame(unsigned char *to, uint32_t seqno, int bytes) {
    unsigned char *head = to;
    *head++ = 0x81;
    *head++ = (unsigned char)(bytes < 126 ? bytes : 126);
    if (bytes >= 126) *head++ = (unsigned char)(bytes >> 8), *head++ = (unsigned char)bytes;
    event_text((char *)head, seqno, 0, now_us(), bytes);
    return (size_t)(head - to) + (size_t)bytes;
}

static void send_to(int fd, const unsigned char *bytes, size_t size) {
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd wish = {.fd = fd, .events = POLLOUT};
            poll(&wish, 1, 1000);
            continue;
        }
        if (sent < 0) return;
        bytes += sent, size -= (size_t)sent;
    }
}

static void send_events(int events, int joined, int bytes, double rate, uint32_t skipped) {
    unsigned char *block = grown(NULL, (size_t)joined * ((size_t)bytes + 8) + MOST_BYTES);
    int64_t start = now_us();
    uint32_t seqno = 0;
    for (int sent = 0; sent < events; sent += joined) {
        if (rate > 0) {
            int64_t wait = start + (int64_t)(sent * 1e6 / rate) - now_us();
            if (wait > 0) usleep((useconds_t)wait);
        }
        size_t size = 0;
        for (int i = 0; i < joined && sent + i < events; i++) {
            if (++seqno == skipped) seqno++;
            size += frame(block + size, seqno, bytes);
        }
        for (int i = 0; i < count; i++) send_to(connections[i], block, size);
    }
    free(block);
    printf("{\"sent\":%d}\n", events);
}

static void commands(void) {
    char input[400];
    ssize_t got = read(0, input, sizeof input - 1);
    if (got <= 0) exit(0);
    input[got] = 0;
    int events, joined, bytes;
    double rate;
    uint32_t skipped;
    if (sscanf(input, "send %d %d %d %lf %u", &events, &joined, &bytes, &rate, &skipped) == 5 && joined > 0 &&
        bytes < MOST_BYTES)
        send_events(events, joined, bytes, rate, skipped);
}

static void welcome(void) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), one = 1;
    if (fd < 0 || count == MOST_CONNECTIONS) fail("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[count++] = fd;
    struct epoll_event wish = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &wish);
}

static void hear(int fd) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    char request[4096];
    ssize_t got = recv(fd, request, sizeof request, 0);
    if (got > 0 && got >= 4 && !memcmp(request + got - 4, "\r\n\r\n", 4)) send_all(fd, answer, sizeof answer - 1);
    if (got != 0) return;
    for (int i = 0; i < count; i++)
        if (connections[i] == fd) connections[i] = connections[--count];
    close(fd);
}

int main(void) {
    many_files();
    struct sockaddr_in where = {.sin_family = AF_INET};
    socklen_t size = sizeof where;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&where, sizeof where) < 0 || listen(listener, 4096) < 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&where, &size);
    poll_fd = epoll_create1(0);
    struct epoll_event wishes[] = {{.events = EPOLLIN, .data.fd = 0}, {.events = EPOLLIN, .data.fd = listener}};
    for (int i = 0; i < 2; i++) epoll_ctl(poll_fd, EPOLL_CTL_ADD, wishes[i].data.fd, &wishes[i]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("{\"port\":%d}\n", ntohs(where.sin_port));
    for (;;) {
        struct epoll_event found[256];
        int ready = epoll_wait(poll_fd, found, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (found[i].data.fd == 0)
                commands();
            else if (found[i].data.fd == listener)
                welcome();
            else
                hear(found[i].data.fd);
        }
    }
}
