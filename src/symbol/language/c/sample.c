/* A list of numbers. */
#include <stdlib.h>
#include "list.h"

#define LIMIT 16
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define GUARD

struct node {
	int value;
	struct node *next;
};

typedef struct list {
	struct node *first;
} list_t;

typedef int (*compare_fn)(const void *, const void *);
typedef unsigned long *handle;

union word {
	int whole;
	char bytes[4];
};

enum order { UP, DOWN };

int list_length(const struct list *list);
struct node *list_find(struct list *, int);

static int counter;
static const char *name = "list";
static const int sizes[] = { 1, 2, 3 };
char buffer[LIMIT], *end;

#ifdef GUARD
extern int guarded;
#endif

static struct node *make(int value)
{
	struct node *node = malloc(sizeof *node);
	node->value = MAX(value, 0);
	return node;
}

int list_length(const struct list *list)
{
	int n = 0;
#ifdef GUARD
	int local;
#endif
	for (struct node *at = list->first; at; at = at->next)
		n++;
	return n;
}

void list_each(struct list *list, compare_fn compare)
{
	list->hooks.before(list);
	counter += compare(list, make(list_length(list)));
}

char **names(void)
{
	return NULL;
}
