/* Writes numbered records to a disk without a file system and tells of each one that the disk has acknowledged.
 *
 *   recorder DEVICE [RATE]      at most RATE records a second, 20 unless told
 *
 * A record is one sector: magic, number, who wrote it (another name at each start), checksum. Number N, from 1, lies in
 * sector (N - 1) modulo the number of sectors, of which it uses no more than MOST. It goes on after the highest number that
 * it finds on the disk. What it says, a line each:
 *
 *   recording from N as WRITER  it starts; N is 1 on an empty disk
 *   acknowledged N.             the disk has said that record N is on it; without the full stop the line was cut
 *   hole at N                   record N should be on the disk, but is not
 *   foreign record N of WRITER  somebody else writes to the disk, too, and is ahead; it goes on all the same
 *   stopped at N: REASON        the disk has refused; it ends
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SECTOR = 512, MOST = 1 << 16, PIECE = 128 };
enum { NAME = 36 };                     /* characters of a UUID */

struct record {
        char magic[8];
        uint64_t number;
        char writer[40];
        char rest[SECTOR - 64];
        uint64_t checksum;              /* FNV-1a of all before it */
};
_Static_assert(sizeof(struct record) == SECTOR, "a record is a sector");

static const char magic[8] = "PVCREC01";
static char writer[40];
static int disk;
static uint64_t sectors;
static struct record buffer[PIECE] __attribute__((aligned(4096)));

static uint64_t checksum(const struct record *record)
{
        const unsigned char *byte = (const unsigned char *)record;
        uint64_t sum = 0xcbf29ce484222325;
        for (size_t i = 0; i < SECTOR - sizeof sum; i++)
                sum = (sum ^ byte[i]) * 0x100000001b3;
        return sum;
}

static int valid(const struct record *record)
{
        return memcmp(record->magic, magic, sizeof magic) == 0 && record->checksum == checksum(record);
}

static void stop(uint64_t number, const char *reason)
{
        printf("stopped at %llu: %s\n", (unsigned long long)number, reason);
        exit(1);
}

static void read_at(uint64_t sector, size_t count, uint64_t number)
{
        ssize_t got = pread(disk, buffer, count * SECTOR, (off_t)sector * SECTOR);
        if (got != (ssize_t)(count * SECTOR))
                stop(number, got < 0 ? strerror(errno) : "the disk is shorter than it said");
}

/* The highest number on the disk. With a number in `end`, also tells of each hole among those that should be there. */
static uint64_t look(uint64_t end)
{
        uint64_t highest = 0;
        for (uint64_t sector = 0; sector < sectors; sector += PIECE) {
                size_t count = sectors - sector < PIECE ? sectors - sector : PIECE;
                read_at(sector, count, end + 1);
                for (size_t i = 0; i < count; i++) {
                        uint64_t number = valid(&buffer[i]) ? buffer[i].number : 0;
                        /* the last number up to `end` that belongs here, 0 for none */
                        uint64_t due = end > sector + i ? end - (end - 1 - sector - i) % sectors : 0;
                        if (due && number != due)
                                printf("hole at %llu\n", (unsigned long long)due);
                        if (number > highest)
                                highest = number;
                }
        }
        return highest;
}

/* Another writer's record is where the own last one should be, or already where the next one goes. */
static void check(uint64_t number, uint64_t first)
{
        read_at((number - 1) % sectors, 1, number);
        if (valid(buffer) && buffer->number >= number)
                printf("foreign record %llu of %.*s\n", (unsigned long long)buffer->number, NAME, buffer->writer);
        if (number == first)
                return;
        read_at((number - 2) % sectors, 1, number);
        if (!valid(buffer))
                printf("hole at %llu\n", (unsigned long long)number - 1);
        else if (strncmp(buffer->writer, writer, NAME) != 0)
                printf("foreign record %llu of %.*s\n", (unsigned long long)buffer->number, NAME, buffer->writer);
}

static void name_writer(void)
{
        FILE *file = fopen("/proc/sys/kernel/random/uuid", "r");
        if (!file || !fgets(writer, NAME + 1, file))
                stop(0, "there is no name to be had from the kernel");
        fclose(file);
}

int main(int words, char **word)
{
        double rate = words > 2 ? atof(word[2]) : 20;
        struct timespec pause;
        uint64_t number, first;
        off_t size;

        setvbuf(stdout, NULL, _IOLBF, 0);
        if (words < 2 || rate <= 0) {
                fprintf(stderr, "recorder: give a disk and perhaps a number of records a second\n");
                return 2;
        }
        if ((disk = open(word[1], O_RDWR | O_DIRECT | O_SYNC)) < 0)
                stop(0, strerror(errno));
        if ((size = lseek(disk, 0, SEEK_END)) < 4 * SECTOR)
                stop(0, size < 0 ? strerror(errno) : "the disk is too small");
        sectors = (uint64_t)size / SECTOR < MOST ? (uint64_t)size / SECTOR : MOST;
        pause = (struct timespec){ (time_t)(1 / rate), (long)((1 / rate - (time_t)(1 / rate)) * 1e9) };

        name_writer();
        first = look(0) + 1;
        look(first - 1);
        printf("recording from %llu as %s\n", (unsigned long long)first, writer);
        for (number = first;; number++) {
                check(number, first);
                memset(buffer, 0, SECTOR);
                memcpy(buffer->magic, magic, sizeof magic);
                buffer->number = number;
                memcpy(buffer->writer, writer, NAME);
                buffer->checksum = checksum(buffer);
                if (pwrite(disk, buffer, SECTOR, (off_t)((number - 1) % sectors) * SECTOR) != SECTOR)
                        stop(number, errno ? strerror(errno) : "it was written in part");
                printf("acknowledged %llu.\n", (unsigned long long)number);
                nanosleep(&pause, NULL);
        }
}
