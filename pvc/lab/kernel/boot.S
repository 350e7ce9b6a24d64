/* Where the tiny kernel starts and is interrupted: the few lines that C cannot say. */

        .set    FLAGS, 0x2                      /* ask for the memory size */
        .set    MAGIC, 0x1BADB002

        .section .multiboot, "a"
        .align  4
        .long   MAGIC, FLAGS, -(MAGIC + FLAGS)

        .section .text
        .globl  start
start:
        mov     $stack_top, %esp
        push    %ebx                            /* the loader's information block */
        call    main
halt:   cli
        hlt
        jmp     halt

        .globl  on_timer
on_timer:
        pusha
        cld
        call    timer_ticked
        popa
        iret

        .globl  on_other
on_other:                                       /* spurious interrupts of the old interrupt controller */
        iret

        .section .bss
        .align  16
        .skip   16384
stack_top:

        .section .note.GNU-stack, "", @progbits
