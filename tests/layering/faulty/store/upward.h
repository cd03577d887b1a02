#include "solver/op.h"
