/* Pings an address at exact intervals and tells of every single ping.
 *
 *   pinger ADDRESS MILLISECONDS [COUNT]     ADDRESS is IPv4 or IPv6
 *
 * After COUNT pings, or SIGTERM, it waits a second for late answers, prints one line per ping and ends:
 *
 *   NUMBER SENT ROUND                       microseconds of a clock that only goes forward; ROUND -1: no answer
 *
 * One that cannot be sent counts as not answered: without a route, while a device is down.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 18 };                /* 43 minutes at 10 ms */
enum { LATE = 1000000 };                /* microseconds */

struct echo { uint8_t type, code; uint16_t checksum, id, sequence; uint32_t number; };

static int64_t sent[MOST], answered[MOST];
static volatile sig_atomic_t stopped;

static void stop(int number) { (void)number; stopped = 1; }

static int64_t now(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static uint16_t checksum(const void *data, unsigned length)
{
        const uint16_t *word = data;
        uint32_t sum = 0;
        for (; length > 1; length -= 2)
                sum += *word++;
        sum = (sum >> 16) + (sum & 0xffff);
        return (uint16_t)~(sum + (sum >> 16));
}

static void listen_until(int64_t due, int s, int v6, uint16_t id, unsigned count, int even_if_stopped)
{
        int64_t left;
        while ((left = due - now()) > 0 && (even_if_stopped || !stopped)) {
                struct pollfd one = { s, POLLIN, 0 };
                struct timespec time = { left / 1000000, left % 1000000 * 1000 };
                uint8_t packet[512];
                struct echo answer;
                long length, head;

                if (ppoll(&one, 1, &time, NULL) <= 0 || (length = recv(s, packet, sizeof packet, 0)) <= 0)
                        continue;
                head = v6 ? 0 : (packet[0] & 15) * 4;
                if (length < head + (long)sizeof answer)
                        continue;
                memcpy(&answer, packet + head, sizeof answer);
                if (answer.type != (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) || answer.id != id)
                        continue;
                if (answer.number < count && !answered[answer.number])
                        answered[answer.number] = now();
        }
}

int main(int words, char **word)
{
        struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in to4 = { .sin_family = AF_INET };
        int v6 = words > 1 && inet_pton(AF_INET6, word[1], &to6.sin6_addr) == 1;
        int64_t every = words > 2 ? (int64_t)(atof(word[2]) * 1000) : 0, start;
        unsigned most = words > 3 ? (unsigned)atoi(word[3]) : MOST, n = 0;
        uint16_t id = (uint16_t)getpid();
        struct sigaction action = { .sa_handler = stop };
        int s;

        if (every <= 0 || (!v6 && inet_pton(AF_INET, word[1], &to4.sin_addr) != 1)) {
                fprintf(stderr, "pinger: give an IPv4 or IPv6 address, milliseconds, and perhaps a count\n");
                return 2;
        }
        if ((s = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) < 0) {
                perror("pinger");
                return 1;
        }
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);

        for (start = now(); n < most && n < MOST && !stopped; n++) {
                struct echo ping = { v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO, 0, 0, id, htons((uint16_t)n), n };
                const struct sockaddr *to = v6 ? (struct sockaddr *)&to6 : (struct sockaddr *)&to4;

                listen_until(start + n * every, s, v6, id, n, 0);
                if (stopped)
                        break;
                ping.checksum = checksum(&ping, sizeof ping);
                sent[n] = now();
                sendto(s, &ping, sizeof ping, MSG_DONTWAIT, to, v6 ? sizeof to6 : sizeof to4);
        }
        listen_until(now() + LATE, s, v6, id, n, 1);
        for (unsigned i = 0; i < n; i++)
                printf("%u %lld %lld\n", i, (long long)sent[i], answered[i] ? (long long)(answered[i] - sent[i]) : -1);
        return fflush(stdout) != 0;
}
