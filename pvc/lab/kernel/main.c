/* A virtual machine that boots at once, idles at almost no cost and does what its command line says:
 *
 *   name=WORD      how it calls itself                rate=N      lines per second (default 1; 0: none)
 *   every=SECONDS  one line in so many seconds, may   length=N    characters per line, without the line end
 *                  have two decimals; replaces rate   text=numbered|identical|blank|mixed
 *                  (mixed: one numbered, one identical, two blank, and so on)
 *   burst=N        lines at the start, at once        fill=MIB    memory to write to at the start
 *   dirty=N        pages of it to write per second    stop=S      seconds until it powers off
 *
 * It also powers off when its power button is pressed, and repeats lines typed on its serial console.
 * Needs: PC with PIC, PIT, COM1 and PIIX4 power management (QEMU's `pc`), loaded by multiboot. No paging, one CPU.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { HZ = 100, PAGE = 4096, COM1 = 0x3f8, FILL_FROM = 4 << 20 };

struct loader_info { u32 flags, mem_lower, mem_upper_kib, boot_device, command_line; };

static volatile u32 ticks;

/* ------- ports */

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outw(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline u16 inw(u16 port) { u16 value; __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline u32 inl(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

/* ------- serial console */

static void serial_start(void)
{
        outb(COM1 + 1, 0);              /* no interrupts: it is looked at every tick */
        outb(COM1 + 3, 0x80);           /* 115200 baud */
        outb(COM1 + 0, 1);
        outb(COM1 + 1, 0);
        outb(COM1 + 3, 0x03);           /* 8 bits, no parity, one stop bit */
        outb(COM1 + 2, 0x07);           /* queues on and empty */
        outb(COM1 + 4, 0x03);
}

static void put(char c)
{
        while (!(inb(COM1 + 5) & 0x20))         /* the last character has not left yet */
                ;
        outb(COM1, c);
}

static u32 print(const char *text)
{
        u32 n = 0;
        for (; text[n]; n++)
                put(text[n]);
        return n;
}

static u32 print_number(u32 value, u32 least_digits)
{
        char digits[10];
        u32 n = 0;
        while (value || n < least_digits) {
                digits[n++] = '0' + value % 10;
                value /= 10;
        }
        for (u32 i = n; i; i--)
                put(digits[i - 1]);
        return n;
}

static void end_line(void) { print("\r\n"); }

/* ------- command line */

static const char *command_line;
static char name[32] = "vm";

static const char *option(const char *key)      /* what follows "key=", or null */
{
        for (const char *at = command_line; *at; at++) {
                if (at != command_line && at[-1] != ' ')
                        continue;
                u32 n = 0;
                while (key[n] && at[n] == key[n])
                        n++;
                if (!key[n] && at[n] == '=')
                        return at + n + 1;
        }
        return 0;
}

static u32 hundredths(const char *key, u32 otherwise)
{
        const char *at = option(key);
        u32 value = 0, decimals = 0;
        if (!at)
                return otherwise;
        for (; *at >= '0' && *at <= '9'; at++)
                value = value * 10 + (*at - '0');
        if (*at == '.')
                at++;
        for (; decimals < 2; decimals++)
                value = value * 10 + (*at >= '0' && *at <= '9' ? (u32)(*at++ - '0') : 0);
        return value;
}

static u32 number(const char *key, u32 otherwise)
{
        const char *at = option(key);
        u32 value = 0;
        if (!at)
                return otherwise;
        for (; *at >= '0' && *at <= '9'; at++)
                value = value * 10 + (*at - '0');
        return value;
}

/* ------- lines */

enum text { NUMBERED = 'n', IDENTICAL = 'i', BLANK = 'b', MIXED = 'm' };
static enum text chosen_text = NUMBERED;
static u32 line_length, lines_printed;

static void print_line(void)
{
        u32 n = 0;
        enum text text = chosen_text;
        if (text == MIXED)
                text = lines_printed % 4 == 0 ? NUMBERED : lines_printed % 4 == 1 ? IDENTICAL : BLANK;
        lines_printed++;
        if (text != BLANK) {
                n = print(name);
                put(' ');
                n++;
                if (text == NUMBERED) {
                        n += print_number(lines_printed, 6);
                        put(' ');
                        n++;
                }
                const char *greeting = "hello from the tiny kernel";
                for (; *greeting && (!line_length || n < line_length); n++)
                        put(*greeting++);
                for (; n < line_length; n++)
                        put('.');
        }
        end_line();
}

/* ------- memory */

static u32 filled_pages, next_page, pattern = 1;

static void write_page(u32 page)
{
        u32 *words = (u32 *)(FILL_FROM + page * PAGE);
        for (u32 i = 0; i < PAGE / 4; i += 16) {
                pattern = pattern * 1664525 + 1013904223;
                words[i] = pattern;
        }
}

static void fill(u32 mib, u32 upper_kib)
{
        u32 room = upper_kib > 4096 ? (upper_kib - 4096) / 4 : 0;       /* pages; leaves a MiB free at the end */
        filled_pages = mib * 256 < room ? mib * 256 : room;
        for (u32 page = 0; page < filled_pages; page++)
                write_page(page);
}

static void dirty(u32 pages)
{
        for (; pages && filled_pages; pages--) {
                write_page(next_page);
                next_page = (next_page + 1) % filled_pages;
        }
}

/* ------- power */

static u16 power_port;          /* 0: no power management found */

static u32 pci_read(u32 function, u32 at)
{
        outl(0xcf8, 0x80000000 | 1 << 11 | function << 8 | at);         /* bus 0, device 1: the PIIX */
        return inl(0xcfc);
}

static void power_start(void)
{
        if (pci_read(3, 0) != 0x71138086)
                return;
        power_port = pci_read(3, 0x40) & 0xffc0;                        /* placed by the BIOS */
        outw(power_port + 2, 1 << 8);                                   /* let the button set its status bit */
}

static int button_pressed(void) { return power_port && inw(power_port) & 1 << 8; }

static void power_off(const char *why)
{
        print(name);
        print(" powers off: ");
        print(why);
        end_line();
        outw(power_port + 4, 1 << 13);
        for (;;)
                __asm__ volatile("cli; hlt");
}

/* ------- what is typed */

static char typed[128];
static u32 typed_length;

static void take_input(void)
{
        while (inb(COM1 + 5) & 1) {
                char c = inb(COM1);
                if (c != '\r' && c != '\n') {
                        if (typed_length < sizeof typed - 1)
                                typed[typed_length++] = c;
                        continue;
                }
                typed[typed_length] = 0;
                typed_length = 0;
                print(name);
                print(" heard: ");
                print(typed);
                end_line();
        }
}

/* ------- timer */

extern void on_timer(void), on_other(void);
static struct { u16 low, selector; u8 zero, kind; u16 high; } __attribute__((packed)) gates[48];

void timer_ticked(void)
{
        ticks++;
        outb(0x20, 0x20);
}

static void timer_start(void)
{
        u16 code;
        __asm__("mov %%cs, %0" : "=r"(code));
        for (u32 i = 32; i < 48; i++) {
                u32 target = (u32)(i == 32 ? on_timer : on_other);
                gates[i].low = target;
                gates[i].selector = code;
                gates[i].kind = 0x8e;
                gates[i].high = target >> 16;
        }
        struct { u16 limit; u32 at; } __attribute__((packed)) table = { sizeof gates - 1, (u32)gates };
        __asm__ volatile("lidt %0" : : "m"(table));
        static const u8 pic[][2] = { {0x20, 0x11}, {0xa0, 0x11}, {0x21, 32}, {0xa1, 40}, {0x21, 4}, {0xa1, 2},
                                     {0x21, 1}, {0xa1, 1}, {0x21, 0xfe}, {0xa1, 0xff} };
        for (u32 i = 0; i < sizeof pic / 2; i++)
                outb(pic[i][0], pic[i][1]);
        outb(0x43, 0x34);
        outb(0x40, 1193182 / HZ & 0xff);
        outb(0x40, 1193182 / HZ >> 8);
        __asm__ volatile("sti");
}

/* The loader's own segment table need not survive, so there is one of ours: flat code and data. */
static void segments_start(void)
{
        static const u32 segments[][2] = { {0, 0}, {0x0000ffff, 0x00cf9a00}, {0x0000ffff, 0x00cf9200} };
        struct { u16 limit; u32 at; } __attribute__((packed)) table = { sizeof segments - 1, (u32)segments };
        __asm__ volatile("lgdt %0; ljmp $8, $1f; 1: mov %1, %%ds; mov %1, %%es; mov %1, %%ss"
                         : : "m"(table), "r"(16) : "memory");
}

void main(const struct loader_info *loader)
{
        segments_start();
        serial_start();
        power_start();
        command_line = (const char *)loader->command_line;
        const char *given = option("name");
        for (u32 i = 0; given && given[i] > ' ' && i < sizeof name - 1; i++)
                name[i] = given[i], name[i + 1] = 0;
        print(name);
        print(" starts: ");
        print(command_line);
        end_line();
        if (option("text"))
                chosen_text = *option("text");
        line_length = number("length", 0);
        fill(number("fill", 0), loader->mem_upper_kib);
        for (u32 i = number("burst", 0); i; i--)
                print_line();

        u32 every = hundredths("every", 0), rate = every ? 0 : number("rate", 1), dirty_rate = number("dirty", 0);
        u32 stop = hundredths("stop", 0), lines_due = 0, pages_due = 0, done = 0;
        timer_start();
        for (;;) {
                while (done == ticks)
                        __asm__ volatile("hlt");
                done++;
                for (lines_due += rate; lines_due >= HZ; lines_due -= HZ)
                        print_line();
                if (every && done % every == 0)
                        print_line();
                pages_due += dirty_rate;
                dirty(pages_due / HZ);
                pages_due %= HZ;
                take_input();
                if (button_pressed())
                        power_off("the button was pressed");
                if (stop && done >= stop)
                        power_off("its time is over");
        }
}
