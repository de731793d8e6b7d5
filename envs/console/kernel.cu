// The console on a GPU: grids of threads around the functions of kernel_body.h.
#include "kernel_body.h"

#if defined(CONSOLE_ENV_BYTES)
static_assert(sizeof(console::Env) == CONSOLE_ENV_BYTES && sizeof(console::Setup) == CONSOLE_SETUP_BYTES,
              "the compilers of the CPU and the GPU lay the structures out alike");
#endif

using namespace console;

// A machine a thread, of the first `lanes` threads of each warp. It is one kernel for all work, since the
// whole console is compiled anew into each.
extern "C" __global__ void __launch_bounds__(64, 10) play_kernel(const Batch* batch, i64 work, i64 game, const i64* actions,
                                                             const u8* mask, const i64* seeds, u8* results) {
  Env env;
  if (work == MAKE_READY) {
    const i32 index = i32(blockIdx.x * blockDim.x + threadIdx.x);
    if (index < i32(START_COUNT) * batch->ready_noops) make_ready(*batch, i32(game), index, env);
    return;
  }
  const Call call = {i32(work), i32(game), actions, mask, seeds, results};
  const i32 row = row_of_thread(*batch, blockIdx.x, threadIdx.x, blockDim.x);
  if (row >= 0) play_row(*batch, call, row, env);
}

// A block for each row.
extern "C" __global__ void __launch_bounds__(256) observe_kernel(const Batch* batch, u8* observations) {
  const i32 row = i32(blockIdx.x), thread = i32(threadIdx.x), threads = i32(blockDim.x);
  copy_ready_screens(*batch, row, thread, threads);
  __syncthreads();
  pool_row(*batch, row, thread, threads);
  __syncthreads();
  stack_row(*batch, row, observations, thread, threads);
}
