#include "proto/digest.h"
