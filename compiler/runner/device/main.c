/* The command line. */
#include "runner.h"

/* In data, not in zeros, since mcc writes it into the file. */
__attribute__((section(".data"))) volatile card mcc_runner_card;

static const char HELP[] =
    "Times, profiles and checks one model, compiled by mcc --emit runner.\n"
    "\n"
    "usage: runner [time] [OPTIONS]      time the whole model\n"
    "       runner profile [OPTIONS]     time each step\n"
    "       runner verify DIR...         check recorded cases: DIR/test_data_set_N/{input,output}_M.{pb,npy}, or\n"
    "                                    DIR/{input,output}_M.{pb,npy}\n"
    "\n"
    "  -i, --input [NAME=]FILE   data of an input, .npy or .pb; inputs without data get noise, or ones\n"
    "      --shape NAME=1x2x3    dimensions of an input without data\n"
    "      --seconds S           how long to measure [default: 2]; give 60 and more to see a phone get hot (drift)\n"
    "      --cpus WHICH          big, little (the fastest and the slowest kind), all, each (one kind after another), or\n"
    "                            a list such as 4-6,7 [default: the system's choice]\n"
    "      --threads N           threads to run on, if the model was compiled with --threads [default: 1]\n"
    "      --json [FILE]         write JSON, to stdout without FILE; mcc report FILE prints it as tables\n"
    "      --rtol R, --atol A    tolerances of verify [default: those of DIR/tolerance, else 1e-3 and 1e-5]\n"
    "      --weights FILE        the model's weights, if mcc wrote them to a file of their own\n"
    "\n"
    "Exit status: 0 done, 1 the model or its data is at fault or a case fails, 2 usage.\n";

/* The value that follows an option. */
static const char *value(char **arguments, int32_t *at)
{
    if (!arguments[*at + 1])
        fail(USAGE, arguments[*at], ": a value must follow", NULL);
    return arguments[++*at];
}

static double real(char **arguments, int32_t *at)
{
    const char *name = arguments[*at], *text = value(arguments, at), *end;
    double number = 0;
    end = parse_real(text, &number);
    if (!end || *end)
        fail(USAGE, name, ": expected a number, not ", text, NULL);
    return number;
}

static void add(const char *list[MAX_PORTS + 1], const char *item)
{
    int32_t n = 0;
    while (list[n])
        n++;
    if (n == MAX_PORTS)
        fail(USAGE, "too many arguments: ", item, NULL);
    list[n] = item;
}

static void option(options *o, char **arguments, int32_t *at)
{
    const char *name = arguments[*at];
    if (equal(name, "-i") || equal(name, "--input"))
        add(o->inputs, value(arguments, at));
    else if (equal(name, "--shape"))
        add(o->shapes, value(arguments, at));
    else if (equal(name, "--seconds"))
        o->seconds = real(arguments, at);
    else if (equal(name, "--cpus"))
        o->cpus = value(arguments, at);
    else if (equal(name, "--weights"))
        o->weights = value(arguments, at);
    else if (equal(name, "--rtol"))
        o->rtol = real(arguments, at);
    else if (equal(name, "--atol"))
        o->atol = real(arguments, at);
    else if (equal(name, "--threads")) {
        double n = real(arguments, at);
        o->threads = n >= 1 && n <= 64 ? (int32_t)n : 0;
    } else if (equal(name, "--json")) {
        const char *next = arguments[*at + 1];
        o->json = next && *next != '-' ? value(arguments, at) : "-";
    } else
        fail(USAGE, name, ": no such option; see --help", NULL);
}

int32_t main_of(int32_t count, char **arguments)
{
    static options o = {.seconds = 2, .rtol = -1, .atol = -1, .threads = 1};
    const char *command = NULL;
    const mcc_model *model = mcc_runner_card.model;
    for (int32_t i = 1; i < count; i++) {
        if (equal(arguments[i], "-h") || equal(arguments[i], "--help")) {
            put(HELP);
            flush();
            return 0;
        }
        if (*arguments[i] == '-')
            option(&o, arguments, &i);
        else if (!command)
            command = arguments[i];
        else
            add(o.cases, arguments[i]);
    }
    command = command ? command : "time";
    if (model->input_count > MAX_PORTS || model->output_count > MAX_PORTS)
        fail(FAULT, "the model has more than 256 inputs or outputs", NULL);
    if (o.threads < 1)
        fail(USAGE, "--threads: expected 1 to 64", NULL);
    if (o.threads > model->threads)
        fail(USAGE, "--threads: the model was compiled for fewer threads; see mcc --threads", NULL);
    if (o.cpus && equal(o.cpus, "each") && equal(command, "verify"))
        fail(USAGE, "--cpus each is for time and profile", NULL);
    if (equal(command, "verify")) {
        if (o.json)
            fail(USAGE, "--json is for time and profile", NULL);
        if (o.cpus)
            use_cpus(parse_cpus(o.cpus), o.cpus);
        return verify_cases(&o) ? 0 : FAULT;
    }
    if (o.cases[0])
        fail(USAGE, o.cases[0], ": not an option; see --help", NULL);
    o.profile = equal(command, "profile");
    if (!o.profile && !equal(command, "time"))
        fail(USAGE, command, ": no such command; see --help", NULL);
    time_model(&o);
    return 0;
}
