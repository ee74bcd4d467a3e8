// An example: copy it, one file for each environment.
using './main.bicep'

param prefix = 'atp'
param alertAddresses = ['security-engineering@example.com', 'sre-on-call@example.com']
param services = []
param operators = []
param auditors = []
param allowedAddresses = []
param moreVaults = []
param functionsPublished = false
param evidenceLocked = false
