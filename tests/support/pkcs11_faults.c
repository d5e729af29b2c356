/* A PKCS#11 module that hands everything to another one, except what a fault file says. Every C_Login is
 * written down: no test believes a PIN was not given because nobody complained.
 *
 * FAULTS_MODULE: the module behind; FAULTS_FILE: one word; FAULTS_LOGINS: file that gets a line a login.
 * Places in CK_FUNCTION_LIST are those of PKCS #11 v2.40, pkcs11f.h. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv_t;
typedef rv_t (*call_t)();
struct list {
    unsigned char version[2];
    call_t call[68];
};
enum { INITIALIZE = 0, GET_TOKEN_INFO = 6, OPEN_SESSION = 12, LOGIN = 18, GET_ATTRIBUTE = 24, SIGN = 43 };
enum { CKR_DEVICE_ERROR = 0x30, CKR_DEVICE_REMOVED = 0x32, CKR_PIN_LOCKED = 0xA4 };
enum { FLAGS_AT = 32 + 32 + 16 + 16, FINAL_TRY = 0x20000, LOCKED = 0x40000 };

static struct list *behind, ours;

static int fault(const char *word) {
    char seen[32] = "";
    FILE *file = fopen(getenv("FAULTS_FILE"), "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%31s", seen) != 1)
        seen[0] = 0;
    fclose(file);
    return strcmp(seen, word) == 0;
}

static rv_t token_info(unsigned long slot, unsigned char *info) {
    rv_t rv = behind->call[GET_TOKEN_INFO](slot, info);
    unsigned long *flags = (unsigned long *)(info + FLAGS_AT);
    if (rv == 0 && fault("final-try"))
        *flags |= FINAL_TRY;
    if (rv == 0 && fault("locked"))
        *flags |= LOCKED;
    return rv;
}

static rv_t open_session(unsigned long slot, unsigned long flags, void *app, void *notify, void *handle) {
    if (fault("removed"))
        return CKR_DEVICE_REMOVED;
    return behind->call[OPEN_SESSION](slot, flags, app, notify, handle);
}

static rv_t login(unsigned long session, unsigned long user, unsigned char *pin, unsigned long length) {
    FILE *file = fopen(getenv("FAULTS_LOGINS"), "a");
    fprintf(file, "%.*s\n", (int)length, pin);
    fclose(file);
    if (fault("pin-locked"))
        return CKR_PIN_LOCKED;
    return behind->call[LOGIN](session, user, pin, length);
}

static rv_t attribute(unsigned long session, unsigned long object, void *list, unsigned long count) {
    if (fault("removed"))
        return CKR_DEVICE_REMOVED;
    return behind->call[GET_ATTRIBUTE](session, object, list, count);
}

static rv_t sign(unsigned long session, unsigned char *data, unsigned long length, unsigned char *made,
                 unsigned long *made_length) {
    rv_t rv;
    if (fault("removed"))
        return CKR_DEVICE_REMOVED;
    while (fault("hang"))
        usleep(5000);
    rv = behind->call[SIGN](session, data, length, made, made_length);
    if (rv == 0 && made != NULL && fault("garbage"))
        made[7] ^= 1;
    return rv;
}

rv_t C_GetFunctionList(struct list **list) {
    void *module = dlopen(getenv("FAULTS_MODULE"), RTLD_NOW);
    call_t get = module == NULL ? NULL : (call_t)dlsym(module, "C_GetFunctionList");
    if (get == NULL || get(&behind) != 0)
        return CKR_DEVICE_ERROR;
    ours = *behind;
    ours.call[GET_TOKEN_INFO] = (call_t)token_info;
    ours.call[OPEN_SESSION] = (call_t)open_session;
    ours.call[LOGIN] = (call_t)login;
    ours.call[GET_ATTRIBUTE] = (call_t)attribute;
    ours.call[SIGN] = (call_t)sign;
    *list = &ours;
    return 0;
}
