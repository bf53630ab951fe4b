#include "engine/checkpoint/checkpoint.h"
