// A program that another user runs. `client PATH` connects, greets as HTTP/2 does, and prints how
// many bytes came back before the end. `server PATH` listens, prints "listening", then how many
// bytes each connection sent before its end.

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static long count_to_end(int fd) {
    char bytes[4096];
    long all = 0;
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0) return all;
        all += n;
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    // A hang is a failure, and nothing of ours outlives a run.
    alarm(60);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(arguments[2]) >= sizeof address.sun_path) return 2;
    strcpy(address.sun_path, arguments[2]);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (strcmp(arguments[1], "client") == 0) {
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
            perror("connect");
            return 1;
        }
        static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
        // The daemon may have closed it already.
        (void)!send(fd, preface, sizeof preface, MSG_NOSIGNAL);
        // We say no more: whoever serves us answers and ends.
        shutdown(fd, SHUT_WR);
        printf("%d %ld\n", (int)getpid(), count_to_end(fd));
        return 0;
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 16) != 0) {
        perror("listen");
        return 1;
    }
    chmod(arguments[2], 0666);
    puts("listening");
    fflush(stdout);
    for (;;) {
        int peer = accept(fd, NULL, NULL);
        if (peer < 0) return 1;
        printf("%ld\n", count_to_end(peer));
        fflush(stdout);
        close(peer);
    }
}
