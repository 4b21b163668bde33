/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_MATH_H
#define MSVC_MATH_H

#ifdef __cplusplus
extern "C" {
#endif
double fabs(double x);
float fabsf(float x);
double sqrt(double x);
float sqrtf(float x);
double exp(double x);
float expf(float x);
double log(double x);
float logf(float x);
double log10(double x);
double pow(double x, double y);
double floor(double x);
double ceil(double x);
double cos(double x);
double tanh(double x);
float tanhf(float x);
double ldexp(double x, int exponent);
#ifdef __cplusplus
}
#endif
#define HUGE_VALF ((float)1e300)
#define INFINITY HUGE_VALF
#define NAN (INFINITY * 0)

#endif
