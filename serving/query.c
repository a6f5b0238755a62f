/* Asks a SavedModel without Python, through TensorFlow's C API.

   tf=$(python -c "import tensorflow; print(tensorflow.sysconfig.get_lib())")
   cc -I $tf/include -o query serving/query.c \
      -L $tf -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,$tf
   printf 'serving_default_sentences:0\n1\nI saw a saw .\n' |
       ./query saved_models/pos_tagging/1 StatefulPartitionedCall:1

   The names of a signature's tensors are printed by `saved_model_cli show --all --dir …`.

   Usage: query MODEL OUTPUT... < INPUTS
   Each input is a line with its tensor's name, a line with its shape (empty: a scalar), and
   its elements, one a line. Each output is written in the same form. Numbers are float32,
   int32 or int64; all else is text. */

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

enum { MOST_TENSORS = 64, MOST_DIMENSIONS = 8 };

static void fail(const char* what, const char* why) {
  fprintf(stderr, "query: %s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* "name:2", the third output of the operation "name". */
static TF_Output tensor_named(TF_Graph* graph, char* name) {
  char* colon = strrchr(name, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  TF_Operation* operation = TF_GraphOperationByName(graph, name);
  if (!operation || index >= TF_OperationNumOutputs(operation)) fail(name, "no such tensor");
  if (colon) *colon = ':';
  return (TF_Output){operation, index};
}

/* A line without its end, or NULL; good until the next call. */
static char* line(void) {
  static char* text = NULL;
  static size_t size = 0;
  ssize_t length = getline(&text, &size, stdin);
  if (length < 0) return NULL;
  if (length > 0 && text[length - 1] == '\n') text[length - 1] = 0;
  return text;
}

static TF_Tensor* read_tensor(TF_DataType type, const char* name) {
  int64_t dims[MOST_DIMENSIONS], count = 1;
  int rank = 0;
  char *text = line(), *end;
  if (!text) fail(name, "no shape follows");
  for (int64_t n = strtoll(text, &end, 10); end != text; n = strtoll(text, &end, 10)) {
    if (rank == MOST_DIMENSIONS || n < 0) fail(name, "not a shape");
    dims[rank++] = n;
    if (__builtin_mul_overflow(count, n, &count)) fail(name, "not a shape");
    text = end;
  }
  if (count < 0 || count > INT64_MAX / 64) fail(name, "not a shape");
  if (text[strspn(text, " \t\r")]) fail(name, "not a shape");
  size_t size = type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(type);
  TF_Tensor* tensor = TF_AllocateTensor(type, dims, rank, count * size);
  if (!tensor) fail(name, "too large");
  void* data = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; i++) {
    if (!(text = line())) fail(name, "too few elements");
    errno = 0;
    if (type == TF_FLOAT) {
      ((float*)data)[i] = strtof(text, &end);
    } else if (type == TF_INT32) {
      int64_t n = strtoll(text, &end, 10);
      if (n < INT32_MIN || n > INT32_MAX) errno = ERANGE;
      ((int32_t*)data)[i] = (int32_t)n;
    } else if (type == TF_INT64) {
      ((int64_t*)data)[i] = strtoll(text, &end, 10);
    } else if (type == TF_STRING) {
      TF_StringInit((TF_TString*)data + i);
      TF_StringCopy((TF_TString*)data + i, text, strlen(text));
    } else {
      fail(name, "of a type that is not read here");
    }
    if (type == TF_STRING) continue;
    if (type == TF_FLOAT && fabsf(((float*)data)[i]) < 1) errno = 0; /* too small is no error */
    if (end == text || end[strspn(end, " \t\r")] || errno) fail(text, "not such a number");
  }
  return tensor;
}

static void print_tensor(const char* name, TF_Tensor* tensor) {
  TF_DataType type = TF_TensorType(tensor);
  void* data = TF_TensorData(tensor);
  printf("%s\n", name);
  for (int d = 0; d < TF_NumDims(tensor); d++) printf(d ? " %lld" : "%lld", (long long)TF_Dim(tensor, d));
  printf("\n");
  for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) {
    if (type == TF_FLOAT) {
      printf("%.9g\n", ((float*)data)[i]);
    } else if (type == TF_INT32) {
      printf("%d\n", ((int32_t*)data)[i]);
    } else if (type == TF_INT64) {
      printf("%lld\n", (long long)((int64_t*)data)[i]);
    } else if (type == TF_STRING) {
      TF_TString* text = (TF_TString*)data + i;
      printf("%.*s\n", (int)TF_StringGetSize(text), TF_StringGetDataPointer(text));
    } else {
      fail(name, "of a type that is not printed here");
    }
  }
}

int main(int argc, char** argv) {
  if (argc < 3 || argc - 2 > MOST_TENSORS) fail("usage", "query MODEL OUTPUT... < INPUTS");
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  const char* tags[] = {"serve"};
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, argv[1]);

  TF_Output inputs[MOST_TENSORS], outputs[MOST_TENSORS];
  TF_Tensor *given[MOST_TENSORS], *answers[MOST_TENSORS];
  int count = 0;
  for (char* name; (name = line()); count++) {
    if (count == MOST_TENSORS) fail("inputs", "too many");
    inputs[count] = tensor_named(graph, name);
    given[count] = read_tensor(TF_OperationOutputType(inputs[count]), "an input");
  }
  for (int i = 2; i < argc; i++) outputs[i - 2] = tensor_named(graph, argv[i]);
  TF_SessionRun(session, NULL, inputs, given, count, outputs, answers, argc - 2, NULL, 0, NULL,
                status);
  check(status, "running it");
  for (int i = 2; i < argc; i++) print_tensor(argv[i], answers[i - 2]);
  return 0;
}
