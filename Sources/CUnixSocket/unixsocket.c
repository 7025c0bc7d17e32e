#define _GNU_SOURCE

#include "CUnixSocket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union room {
    char bytes[CMSG_SPACE(TOCSIN_DESCRIPTORS_MAX * sizeof(int))];
    struct cmsghdr header;
};

long tocsin_send_descriptors(int socket, const void *bytes, unsigned long count, const int *descriptors, int number) {
    union room room;
    struct iovec part = {(void *)bytes, count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (number > TOCSIN_DESCRIPTORS_MAX) {
        errno = EINVAL;
        return -1;
    }
    if (number > 0) {
        memset(&room, 0, sizeof room);
        message.msg_control = room.bytes;
        message.msg_controllen = CMSG_SPACE(number * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(number * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, number * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

long tocsin_receive_descriptors(int socket, void *bytes, unsigned long count, int *descriptors, int room, int *number) {
    union room control;
    struct iovec part = {bytes, count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    *number = 0;
    long got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0) return got;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int here = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int index = 0; index < here; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof descriptor);
            if (*number < room) {
                descriptors[(*number)++] = descriptor;
            } else {
                close(descriptor);
            }
        }
    }
    return got;
}

int tocsin_peer(int socket, unsigned int *user, int *process) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
    *user = peer.uid;
    *process = peer.pid;
    return 0;
}

static int fill(struct sockaddr_un *address, const char *path) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address->sun_path, path);
    return 0;
}

int tocsin_bind_path(int socket, const char *path) {
    struct sockaddr_un address;
    return fill(&address, path) == 0 ? bind(socket, (struct sockaddr *)&address, sizeof address) : -1;
}

int tocsin_connect_path(int socket, const char *path) {
    struct sockaddr_un address;
    return fill(&address, path) == 0 ? connect(socket, (struct sockaddr *)&address, sizeof address) : -1;
}

int tocsin_file_identity(const char *path, unsigned int *mode, unsigned long *device, unsigned long *number) {
    struct stat status;
    if (lstat(path, &status) != 0) return -1;
    *mode = status.st_mode;
    *device = status.st_dev;
    *number = status.st_ino;
    return 0;
}
