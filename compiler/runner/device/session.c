/* A model with its inputs, outputs and arena. */
#include "runner.h"

int32_t own_inputs(const mcc_model *model)
{
    return model->input_count - (mcc_runner_card.separate_weights ? 1 : 0);
}

static void put_port(const mcc_port *port)
{
    put_quoted(port->name);
    put(": ");
    put(type_name(port->dtype));
    put("[");
    for (int32_t i = 0; i < port->rank; i++) {
        put(i ? ", " : "");
        if (port->dims[i] < 0)
            put(port->dim_names[i]);
        else
            put_integer(port->dims[i]);
    }
    put("]");
}

/* Says what the inputs are, and leaves. */
static _Noreturn void explain_inputs(const mcc_model *model, const char *what, const char *which)
{
    set_output(2);
    put("mcc runner: ");
    put(what);
    put(which);
    put("; the model's inputs are");
    for (int32_t i = 0; i < own_inputs(model); i++) {
        put(i ? ", " : " ");
        put_port(&model->inputs[i]);
    }
    put("\n");
    flush();
    leave(USAGE);
}

/* What an option NAME=VALUE says about each input, the longest name first, since names may contain "=". A value without a
 * name is for the next input without one. */
static void assign(const mcc_model *model, const char *const *given, const char *values[MAX_PORTS])
{
    for (; *given; given++) {
        int32_t slot = -1;
        size_t longest = 0;
        const char *value = *given;
        for (int32_t i = 0; i < own_inputs(model); i++) {
            const char *rest = after(*given, model->inputs[i].name);
            size_t n = length(model->inputs[i].name);
            if (rest && *rest == '=' && (slot < 0 || n > longest)) {
                slot = i;
                longest = n;
                value = rest + 1;
            }
        }
        for (int32_t i = 0; i < own_inputs(model) && slot < 0; i++)
            if (!values[i])
                slot = i;
        if (slot < 0)
            explain_inputs(model, "too many inputs: ", *given);
        if (values[slot])
            explain_inputs(model, "given twice: ", *given);
        values[slot] = value;
    }
}

/* "1x3x224x224". */
static void parse_shape(const mcc_model *model, const char *text, tensor *t)
{
    const char *rest = text;
    t->rank = 0;
    for (;;) {
        int64_t extent;
        rest = t->rank < MAX_RANK ? parse_integer(rest, &extent) : NULL;
        if (!rest)
            explain_inputs(model, "--shape: expected NAME=1x3x224x224, not ", text);
        t->dims[t->rank++] = extent;
        if (!*rest)
            return;
        rest += *rest == 'x' || *rest == ',';
    }
}

void read_inputs(session *s, const options *o)
{
    const char *files[MAX_PORTS] = {0}, *shapes[MAX_PORTS] = {0};
    const mcc_model *model = s->model;
    assign(model, o->inputs, files);
    assign(model, o->shapes, shapes);
    for (int32_t i = 0; i < own_inputs(model); i++) {
        const mcc_port *port = &model->inputs[i];
        tensor *t = &s->inputs[i];
        if (files[i] && shapes[i])
            explain_inputs(model, "both -i and --shape are given for ", port->name);
        if (files[i]) {
            *t = read_tensor(files[i], port->dtype);
            continue;
        }
        *t = (tensor){.dtype = port->dtype, .rank = port->rank};
        if (port->rank > MAX_RANK)
            fail(FAULT, "an input has too many dimensions", NULL);
        for (int32_t axis = 0; axis < port->rank; axis++)
            t->dims[axis] = port->dims[axis];
        if (shapes[i])
            parse_shape(model, shapes[i], t);
        for (int32_t axis = 0; axis < t->rank; axis++)
            if (t->dims[axis] < 0)
                explain_inputs(model, "give data with -i NAME=FILE, or --shape NAME=1x2x3, for input ", port->name);
        fill_stand_in(t);
    }
}

static void check(const session *s, int32_t code)
{
    if (code != MCC_OK)
        fail(FAULT, "the model refuses its inputs: ", mcc_explain(s->model, code), NULL);
}

void prepare(session *s, const options *o)
{
    const mcc_model *model = s->model;
    if (mcc_runner_card.separate_weights) {
        tensor *t = &s->inputs[model->input_count - 1];
        uint64_t bytes = 0;
        if (!o->weights)
            fail(USAGE, "the model's weights are in a file of their own; give it with --weights", NULL);
        *t = (tensor){.dtype = MCC_U8, .rank = 1, .data = map_file(o->weights, &bytes)};
        if (!t->data)
            fail(FAULT, "no file ", o->weights, NULL);
        t->dims[0] = (int64_t)bytes;
    }
    for (int32_t i = 0; i < model->input_count; i++) {
        tensor *t = &s->inputs[i];
        const mcc_port *port = &model->inputs[i];
        if (t->rank != port->rank || t->dtype != port->dtype) {
            set_output(2);
            put("mcc runner: ");
            put(type_name(t->dtype));
            put_dims(t->dims, t->rank);
            put(" was given for input ");
            put_port(port);
            put("\n");
            flush();
            leave(FAULT);
        }
        /* The model does not write to its inputs. */
        s->in[i] = (mcc_tensor){(void *)(uintptr_t)t->data, t->dims, t->rank, t->dtype};
    }
    for (int32_t i = 0; i < model->output_count; i++) {
        const mcc_port *port = &model->outputs[i];
        if (port->rank > MAX_RANK)
            fail(FAULT, "an output has too many dimensions", NULL);
        s->out[i] = (mcc_tensor){NULL, s->out_dims[i], port->rank, port->dtype};
    }
    check(s, model->shapes(s->in, s->out, &s->arena_bytes));
    for (int32_t i = 0; i < model->output_count; i++) {
        uint64_t count = element_count(s->out_dims[i], s->out[i].rank);
        s->out[i].data = allocate(count * (uint64_t)element_bytes(s->out[i].dtype));
    }
    memcpy(s->upper_dims, s->out_dims, sizeof s->out_dims);
    s->arena = allocate((uint64_t)s->arena_bytes);
}

void run(session *s)
{
    for (int32_t i = 0; i < s->model->output_count; i++)
        memcpy(s->out_dims[i], s->upper_dims[i], (size_t)s->out[i].rank * sizeof(int64_t));
    check(s, s->model->invoke(s->in, s->out, s->arena, (size_t)s->arena_bytes, s->pool));
}
