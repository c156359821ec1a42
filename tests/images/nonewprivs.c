// Set-uid root in its image: tells whether no_new_privs took that from it.
#include <stdio.h>
#include <unistd.h>

int main(void) {
    printf("Effective uid: %d\n", geteuid());
    return 0;
}
