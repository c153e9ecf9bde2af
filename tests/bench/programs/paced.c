/* HTTP requests at a fixed rate, whatever becomes of those before: an open loop.
 *
 *   paced ADDRESS PORT CONNECTIONS RATE SECONDS [LOG]
 *
 * Request k is due at start + k / RATE. It goes out on the connection that has been idle the longest; with none idle
 * it waits for one. Its latency counts from when it was due, so the wait behind a slow answer is in the figures
 * ("coordinated omission" is what leaves it out). A connection that is closed or reset is opened again, and its
 * request counted as failed. Prints one JSON object; LOG gets a line "due latency_us" (-1: failed) for each request,
 * due in seconds since the epoch. */
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 1024, ROOM = 4096, DRAIN_NS = 1000000000 };
struct connection {
    int socket;
    bool busy;
    int64_t due;
    size_t got;
    char answer[ROOM];
};

static struct connection all[CONNECTIONS];
static int idle[CONNECTIONS], idle_from, idle_count, connections, events;
static struct sockaddr_in server;
static char request[256];
static int64_t *latencies, epoch;
static size_t answered, failed, limit;
static FILE *log_file;

static int64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void rest(int index)
{
    all[index].busy = false;
    idle[(idle_from + idle_count++) % CONNECTIONS] = index;
}

static void dial(int index)
{
    struct connection *one = &all[index];
    int yes = 1;
    one->socket = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = 2};
    setsockopt(one->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(one->socket, (struct sockaddr *)&server, sizeof server) < 0)
        fail("connect");
    setsockopt(one->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(one->socket, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    epoll_ctl(events, EPOLL_CTL_ADD, one->socket, &event);
}

static void finish(int index, bool ok)
{
    struct connection *one = &all[index];
    int64_t latency = now(CLOCK_MONOTONIC) - one->due;
    if (log_file && one->busy)
        fprintf(log_file, "%.6f %ld\n", (one->due + epoch) / 1e9, ok ? latency / 1000 : -1L);
    if (ok && answered < limit)
        latencies[answered++] = latency;
    if (!ok) {
        failed += one->busy;
        close(one->socket);
        dial(index);
    }
    if (one->busy)
        rest(index);
}

static void ask(int64_t due)
{
    int index = idle[idle_from];
    struct connection *one = &all[index];
    idle_from = (idle_from + 1) % CONNECTIONS, idle_count--;
    one->busy = true, one->due = due, one->got = 0;
    if (send(one->socket, request, strlen(request), MSG_NOSIGNAL) < 0)
        finish(index, false);
}

static void hear(int index)
{
    struct connection *one = &all[index];
    ssize_t size = recv(one->socket, one->answer + one->got, ROOM - 1 - one->got, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0 || !one->busy) {
        finish(index, false);
        return;
    }
    one->answer[one->got += size] = 0;
    char *body = strstr(one->answer, "\r\n\r\n"), *length = strcasestr(one->answer, "\r\nContent-Length:");
    if (body && length && one->got >= body + 4 - one->answer + strtoul(length + 17, NULL, 10))
        finish(index, !strncmp(one->answer, "HTTP/1.1 200", 12));
}

static int by_value(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double percentile(double share)
{
    return answered ? latencies[(size_t)(share * (answered - 1))] / 1e3 : -1;
}

int main(int argc, char **argv)
{
    if (argc < 6 || (connections = atoi(argv[3])) < 1 || connections > CONNECTIONS)
        return fprintf(stderr, "usage: paced ADDRESS PORT CONNECTIONS RATE SECONDS [LOG]\n"), 2;
    server = (struct sockaddr_in){AF_INET, htons(atoi(argv[2])), {inet_addr(argv[1])}, {0}};
    snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", argv[1]);
    double rate = atof(argv[4]), seconds = atof(argv[5]);
    limit = rate * seconds;
    latencies = malloc((limit + 1) * sizeof *latencies);
    if (argc > 6 && !(log_file = fopen(argv[6], "w")))
        fail(argv[6]);
    prctl(PR_SET_TIMERSLACK, 1UL);
    events = epoll_create1(0);
    for (int i = 0; i < connections; i++)
        dial(i), rest(i);

    epoch = now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC);
    int64_t start = now(CLOCK_MONOTONIC), time;
    size_t asked = 0;
    for (;;) {
        time = now(CLOCK_MONOTONIC);
        int64_t due = start + (int64_t)(asked / rate * 1e9);
        while (asked < limit && due <= time && idle_count) {
            ask(due);
            due = start + (int64_t)(++asked / rate * 1e9);
        }
        if ((asked == limit && idle_count == connections) || time > start + (int64_t)(seconds * 1e9) + DRAIN_NS)
            break;
        int64_t wait = asked < limit && idle_count ? due - time : DRAIN_NS / 10;
        wait = wait > 0 ? wait : 0;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        struct epoll_event ready[64];
        int count = epoll_pwait2(events, ready, 64, &timeout, NULL);
        for (int i = 0; i < count; i++)
            hear(ready[i].data.u32);
    }
    qsort(latencies, answered, sizeof *latencies, by_value);
    printf("{\"due\": %zu, \"answered\": %zu, \"failed\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"longest_us\": %.1f}\n",
           limit, answered, failed, percentile(.5), percentile(.99), percentile(.999), percentile(1));
}
