// Writes down every kernel, copy and fill that a process runs on an NVIDIA GPU: one line "start end class name", nanoseconds.
//
// build: cc -O2 -shared -fPIC -I CUDA/include -o kernels.so bench/kernels.c -L CUDA/lib -l:libcupti.so.13
// run:   CUDA_INJECTION64_PATH=$PWD/kernels.so KERNELS=kernels.txt irepair-bench ...
//
// The driver loads the library that the first variable names and calls InitializeInjection. `bench/gpu.py` uses it where it
// lies beside the programs, and adds the lines up.

#include <cupti_activity.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *out;

// The version of a record follows the header's; what is read here has stayed where it is.
static void look(CUpti_Activity *record) {
  switch (record->kind) {
  case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
    CUpti_ActivityKernel10 *kernel = (CUpti_ActivityKernel10 *)record;
    fprintf(out, "%llu %llu kernel %s\n", (unsigned long long)kernel->start, (unsigned long long)kernel->end, kernel->name);
    break;
  }
  case CUPTI_ACTIVITY_KIND_MEMCPY: {
    CUpti_ActivityMemcpy6 *copy = (CUpti_ActivityMemcpy6 *)record;
    const char *way = copy->copyKind == 1 ? "to the device" : copy->copyKind == 2 ? "to the host" : "on the device";
    fprintf(out, "%llu %llu copy %s\n", (unsigned long long)copy->start, (unsigned long long)copy->end, way);
    break;
  }
  case CUPTI_ACTIVITY_KIND_MEMSET: {
    CUpti_ActivityMemset4 *fill = (CUpti_ActivityMemset4 *)record;
    fprintf(out, "%llu %llu fill memset\n", (unsigned long long)fill->start, (unsigned long long)fill->end);
    break;
  }
  default:
    break;
  }
}

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *most) {
  *size = 8 << 20;
  *buffer = malloc(*size);
  *most = 0;
}

static void CUPTIAPI take(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t filled) {
  CUpti_Activity *record = NULL;
  (void)context, (void)stream, (void)size;
  while (filled > 0 && cuptiActivityGetNextRecord(buffer, filled, &record) == CUPTI_SUCCESS) look(record);
  free(buffer);
}

static void end(void) {
  cuptiActivityFlushAll(1);
  fflush(out);
}

int InitializeInjection(void) {
  const char *path = getenv("KERNELS");
  out = path ? fopen(path, "w") : NULL;
  if (out == NULL) return 0;
  cuptiActivityRegisterCallbacks(give, take);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
  atexit(end);
  return 1;
}
